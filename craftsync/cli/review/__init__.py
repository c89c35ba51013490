"""The commands for what a person settles afterwards: conflicts, held deletes and the trash."""
