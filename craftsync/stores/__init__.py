"""The remote side: stores know nothing of plans, baselines or roots.

`base` is the contract; each other module is one store, or a wrapper with the
same contract. A library that talks to one kind of store is imported only by
that store's modules.
"""
