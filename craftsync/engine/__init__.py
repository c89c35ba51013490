"""One run: plan, carry out, record. Push, pull, sync and a daemon's cycle all go through here."""
