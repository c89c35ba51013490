"""A data store server that speaks the Craft AI platform's protocol, over any store.

For developing and testing pipelines without the platform: an unmodified
`craft-ai-sdk` works against it. It knows stores only by their contract
(`stores/base.py`), and nothing of roots, baselines and runs.

As on the platform, JSON calls with an access token (`api.py`) hand out signed
URLs, and the bytes travel through those (`objects.py`).
"""
