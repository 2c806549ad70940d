"""wherry-oci: the runtime as a command in the form that containerd, Podman and Docker expect of runc.

`arguments` reads the command line, `state` keeps what a container is between commands, `commands` does what
each asks for, `documents` are the fixed answers of `spec` and `features`.
"""
