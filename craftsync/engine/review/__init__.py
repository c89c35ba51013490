"""What a person reviews and settles after a run: held deletes, conflicts, the trash, damage."""
