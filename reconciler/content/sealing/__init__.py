"""Sealing: a bundle as a bundle of age files, the same ones for the same files, paths and key.

`seal_key.py` derives what an age file draws at random; `sealed_file.py` computes any span of one;
`sealed_names.py` names them; `seal_pass.py` hashes them; `sealed_dag.py` is the DAG that leaves the machine;
`unseal.py` is the way back. docs/decisions/0012-sealed-weights.md has the security argument.
"""
