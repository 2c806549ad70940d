"""Engine API client over unix sockets, TCP and TLS; also the public Python SDK.

    from wherry.client.client import Client

    with Client("unix:///run/wherry/wherry.sock") as client:
        for container in client.containers.list_all(all_=True):
            print(container["Id"], container["State"])

Answers are plain dicts as in Docker's API description; errors are those of wherry.client.errors.
Threads may share a client. Nothing here imports a third party.
"""
