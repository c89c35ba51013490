"""What the user reviews and decides after a run: held deletes, conflicts, the trash, damaged content."""
