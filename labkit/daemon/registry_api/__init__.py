"""A registry: the server side of the OCI distribution specification 1.1.

names     what may be a repository, a tag, a digest, an upload
errors    the specification's error codes and what each means in HTTP
layout    where things lie below one folder (as the reference registry keeps them)
storage   blobs, manifests, tags and referrers in that folder
uploads   blobs on their way in, resumable after a restart
accounts  an htpasswd file
app       requests and answers
__main__  the process: `python -m labkit.daemon.registry_api --listen 127.0.0.1:5000 --root DIR`
"""
