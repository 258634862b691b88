"""The paper's experiments on real checkpoints and data sets, for those with a connection.

    python -m examples.paper.lxmert_vqa --features FOLDER
    python -m examples.paper.visualbert_vqa --features FOLDER
    python -m examples.paper.vit_imagenet
    python -m examples.paper.clip_imagenet
    python -m examples.paper.detr_coco --annotations instances_val2017.json

Each has ``--dry-run``, which does all the same but for the downloads: the same classes with small
random weights, on generated records of the same form. `docs/results.md` has what comes out of the small
models that ship.
"""
