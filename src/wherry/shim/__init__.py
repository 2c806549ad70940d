"""The spawner (a zygote) and the shim: the process that parents one container and outlives the engine."""
