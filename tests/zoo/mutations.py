"""All the bugs of the zoo."""

from __future__ import annotations

from tests.zoo import deciding, in_the_folder, in_the_store, over_runs
from tests.zoo.mutation import Mutation

MUTATIONS: tuple[Mutation, ...] = (
    *in_the_folder.MUTATIONS,
    *deciding.MUTATIONS,
    *in_the_store.MUTATIONS,
    *over_runs.MUTATIONS,
)
