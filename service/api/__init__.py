"""The dialects: HTTP in, one SpeechRequest to the chain, HTTP out. It knows no engine."""
