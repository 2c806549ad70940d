"""The command line: argv to Engine API calls to text. One file per verb; talks to the engine by HTTP only."""
