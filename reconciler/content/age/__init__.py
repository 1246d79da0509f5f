"""age: the file format `age-encryption.org/v1`, read as any age program writes it, and written by us.

Header, recipients and identities (X25519 and ssh-ed25519), the payload in chunks, and the ASCII armor.
Source: C2SP `age.md`; ssh recipients as in the Go module `filippo.io/age/agessh`.
"""
