"""The command line: `main` is the command, the other files are its verbs. They call `verbs` and other library
functions, and hand results to the console."""
