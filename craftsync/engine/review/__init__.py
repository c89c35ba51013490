"""What a person looks at and settles after a run: held deletes, conflicts, the trash, damage."""
