"""The commands of ``retinue``; one file each. Nothing here imports torch before a command runs."""
