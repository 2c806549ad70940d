"""What the nouns do: containers, execs, images, networks, volumes, builder, events, system. The only place where siblings meet."""
