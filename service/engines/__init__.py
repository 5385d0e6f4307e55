"""The rungs and the chain that walks them. It knows nothing of HTTP."""
