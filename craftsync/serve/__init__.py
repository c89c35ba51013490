"""A data store server that speaks the Craft AI platform's protocol, over any store.

For developing and testing pipelines without the platform: an unmodified
`craft-ai-sdk` works against it. It uses stores only through their contract
(`stores/base.py`), and knows nothing of linked folders and runs.

As on the platform, JSON calls with an access token (`api.py`) return signed
URLs, through which the bytes are transferred (`objects.py`).
"""
