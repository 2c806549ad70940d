"""The builder: contexts, solver, execution of steps, cache, export. Imports nothing: workers load single modules."""
