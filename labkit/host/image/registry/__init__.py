"""Talking to registries: the OCI distribution specification 1.1 from the client's side.

settings    daemon.json and certs.d
options     how to reach them: credentials, insecure ones, mirrors
endpoints   which URLs a registry's name stands for
tls         custom authorities and client certificates
auth        bearer tokens and basic credentials
client      one registry: manifests and blobs
manifests   what they say, checked
download    an image from a registry into the store, as a stream of progress
upload      the other way
"""
