"""The command as a process: how it starts, is stopped and fails."""
