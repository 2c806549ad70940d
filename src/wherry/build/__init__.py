"""The Dockerfile as a pipeline of pure stages: words, parse, instructions, expansion, stages, plan."""
