"""The table of verbs: where each is implemented, and the line that helps to find it."""

from __future__ import annotations

# name: (module below wherry.cli, summary)
CONTAINER = {
    "attach": (
        "container.attach",
        "Attach local standard input, output, and error streams to a running container",
    ),
    "commit": ("container.commit", "Create a new image from a container's changes"),
    "cp": ("container.cp", "Copy files/folders between a container and the local filesystem"),
    "create": ("container.create", "Create a new container"),
    "diff": (
        "container.diff",
        "Inspect changes to files or directories on a container's filesystem",
    ),
    "exec": ("container.exec", "Execute a command in a running container"),
    "export": ("container.export", "Export a container's filesystem as a tar archive"),
    "inspect": (
        "container.inspect",
        "Display detailed information on one or more containers",
    ),
    "kill": ("container.kill", "Kill one or more running containers"),
    "logs": ("container.logs", "Fetch the logs of a container"),
    "ls": ("container.ls", "List containers"),
    "pause": ("container.pause", "Pause all processes within one or more containers"),
    "port": (
        "container.port",
        "List port mappings or a specific mapping for the container",
    ),
    "prune": ("container.prune", "Remove all stopped containers"),
    "rename": ("container.rename", "Rename a container"),
    "restart": ("container.restart", "Restart one or more containers"),
    "rm": ("container.rm", "Remove one or more containers"),
    "run": ("container.run", "Create and run a new container from an image"),
    "start": ("container.start", "Start one or more stopped containers"),
    "stats": (
        "container.stats",
        "Display a live stream of container(s) resource usage statistics",
    ),
    "stop": ("container.stop", "Stop one or more running containers"),
    "top": ("container.top", "Display the running processes of a container"),
    "unpause": ("container.unpause", "Unpause all processes within one or more containers"),
    "update": ("container.update", "Update configuration of one or more containers"),
    "wait": (
        "container.wait",
        "Block until one or more containers stop, then print their exit codes",
    ),
}

IMAGE = {
    "build": ("image.build", "Build an image from a Dockerfile"),
    "history": ("image.history", "Show the history of an image"),
    "import": (
        "image.import_",
        "Import the contents from a tarball to create a filesystem image",
    ),
    "inspect": ("image.inspect", "Display detailed information on one or more images"),
    "load": ("image.load", "Load an image from a tar archive or STDIN"),
    "ls": ("image.ls", "List images"),
    "prune": ("image.prune", "Remove unused images"),
    "pull": ("image.pull", "Download an image from a registry"),
    "push": ("image.push", "Upload an image to a registry"),
    "rm": ("image.rm", "Remove one or more images"),
    "save": (
        "image.save",
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
    ),
    "tag": ("image.tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
    "tree": ("image.tree", "Show the layers of an image and the files that each one changes"),
}

NETWORK = {
    "connect": ("network.connect", "Connect a container to a network"),
    "create": ("network.create", "Create a network"),
    "disconnect": ("network.disconnect", "Disconnect a container from a network"),
    "inspect": ("network.inspect", "Display detailed information on one or more networks"),
    "ls": ("network.ls", "List networks"),
    "prune": ("network.prune", "Remove all unused networks"),
    "rm": ("network.rm", "Remove one or more networks"),
}

VOLUME = {
    "create": ("volume.create", "Create a volume"),
    "inspect": ("volume.inspect", "Display detailed information on one or more volumes"),
    "ls": ("volume.ls", "List volumes"),
    "prune": ("volume.prune", "Remove unused local volumes"),
    "rm": ("volume.rm", "Remove one or more volumes"),
}

SYSTEM = {
    "check": ("system.check", "Re-hash the store of the engine and report what is wrong"),
    "df": ("system.df", "Show wherry disk usage"),
    "events": ("system.events", "Get real time events from the server"),
    "info": ("system.info", "Display system-wide information"),
    "prune": ("system.prune", "Remove unused data"),
    "stop": ("system.stop", "Stop the engine; containers go on"),
}

BUILDER = {
    "build": ("image.build", "Build an image from a Dockerfile"),
    "df": ("builder.df", "Show the build cache"),
    "du": ("builder.df", "Show the build cache"),
    "history": ("builder.history", "Show finished builds, or the log of one"),
    "prune": ("builder.prune", "Remove build cache"),
}

MANIFEST = {
    "inspect": ("image.manifest_inspect", "Display an image manifest, or manifest list"),
}

GROUPS = {
    "builder": (BUILDER, "Manage builds"),
    "container": (CONTAINER, "Manage containers"),
    "image": (IMAGE, "Manage images"),
    "manifest": (MANIFEST, "Manage Docker image manifests and manifest lists"),
    "network": (NETWORK, "Manage networks"),
    "system": (SYSTEM, "Manage wherry"),
    "volume": (VOLUME, "Manage volumes"),
}

# Verbs without a group, in the order of the help.
COMMON = {
    "run": CONTAINER["run"],
    "exec": CONTAINER["exec"],
    "ps": CONTAINER["ls"],
    "build": IMAGE["build"],
    "pull": IMAGE["pull"],
    "push": IMAGE["push"],
    "images": IMAGE["ls"],
    "login": ("system.login", "Authenticate to a registry"),
    "logout": ("system.logout", "Log out from a registry"),
    "search": ("image.search", "Search Docker Hub for images"),
    "version": ("system.version", "Show the wherry version information"),
    "info": SYSTEM["info"],
}

OTHERS = {
    "attach": CONTAINER["attach"],
    "commit": CONTAINER["commit"],
    "cp": CONTAINER["cp"],
    "create": CONTAINER["create"],
    "diff": CONTAINER["diff"],
    "events": SYSTEM["events"],
    "export": CONTAINER["export"],
    "history": IMAGE["history"],
    "import": IMAGE["import"],
    "inspect": ("system.inspect", "Return low-level information on Docker objects"),
    "kill": CONTAINER["kill"],
    "load": IMAGE["load"],
    "logs": CONTAINER["logs"],
    "pause": CONTAINER["pause"],
    "port": CONTAINER["port"],
    "rename": CONTAINER["rename"],
    "restart": CONTAINER["restart"],
    "rm": CONTAINER["rm"],
    "rmi": IMAGE["rm"],
    "save": IMAGE["save"],
    "start": CONTAINER["start"],
    "stats": CONTAINER["stats"],
    "stop": CONTAINER["stop"],
    "tag": IMAGE["tag"],
    "top": CONTAINER["top"],
    "unpause": CONTAINER["unpause"],
    "update": CONTAINER["update"],
    "wait": CONTAINER["wait"],
}

# Other names of verbs, by group; the help shows them at the verb.
ALIASES = {
    "container": {"list": "ls", "ps": "ls", "remove": "rm"},
    "image": {"list": "ls", "remove": "rm"},
    "network": {"list": "ls", "remove": "rm"},
    "volume": {"list": "ls", "remove": "rm"},
}
