"""Post-deploy verification of a speech service over HTTP: `python -m checks URL`.

Knows the contract and nothing of the service's code or of the host; asks, and changes nothing.

Where the border between *not met* (exit 1) and *could not tell* (exit 2) runs:

- No connection (name, refusal, TLS, proxy, time-out while connecting): could not tell.
- Something answers `/health` that is not recognisably this service (no HTTP, HTML, other JSON, a
  redirect): could not tell. Nothing else is then sent there, and the key never is.
- It took the connection and does not answer in time, or answers against the contract: not met.
- It wants a key that was not given or is not the one (401), is full (429), or still loads its
  model: could not tell.
- Both at once: not met wins.
"""
