"""detectron2's scripts by name: ``retinue run train_net --config-file ...``.

One module a script, with the script's flags; ``table`` says which name runs what. Reading order:
``common`` reads the config that most of them are given.
"""
