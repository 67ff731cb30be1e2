"""Images: what they are called, how they are kept, stacked, built offline, pulled and pushed.

reference   the grammar of names
digests     sha256, diff-ids and chain-ids
tarread, tarwrite, apply, diff    layers as tar streams and as trees
blobs, index, layers, store       the content-addressed store of one host
union, changes, snapshots         a container's stack of layers and its writable top
removal, presentation             Docker's rules and JSON shapes
catalog, standins/                images built from this machine when no registry answers
pull, registry/                   how an image arrives
"""
