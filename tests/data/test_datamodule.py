import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from segmenter_pl.data.shapes import ShapesDataModule

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),  # Lightning with recent torch
]


class Recorder(pl.LightningModule):
    """Learns nothing; keeps what it was shown."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.shown, self.validated = [], []

    def training_step(self, batch, batch_index):
        self.shown.append((batch["index"], batch["image"].sum().item(), batch["mask"].sum().item()))
        return self.weight.sum()

    def validation_step(self, batch, batch_index):
        self.validated.append((batch["index"][0], tuple(batch["image"].shape)))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def settings(**changes):
    return {
        "batch_size": 4,
        "crop": 96,
        "short_side": 100,
        "scale": (0.5, 2.0),
        "photometric": True,
        "train_images": 10,
        "seed": 5,
    } | changes


def fit(directory, steps=6, accumulate=1, checkpoint=None, **changes):
    trainer = pl.Trainer(
        max_epochs=-1,
        max_steps=steps,
        accumulate_grad_batches=accumulate,
        accelerator="cpu",
        logger=False,
        callbacks=[ModelCheckpoint(directory, every_n_train_steps=2, save_top_k=-1)],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=2,
        val_check_interval=2,
        check_val_every_n_epoch=None,
        default_root_dir=directory,
    )
    model = Recorder()
    trainer.fit(model, ShapesDataModule(**settings(**changes)), ckpt_path=checkpoint)
    return model


def test_two_workers_give_the_same_samples_as_none(tmp_path):
    alone, two = fit(tmp_path / "0"), fit(tmp_path / "2", num_workers=2)
    assert alone.shown == two.shown
    assert len(alone.shown) == 6


def test_workers_and_epochs_draw_different_augmentations():
    """One scene over and over: eight epochs, alternating between two workers."""
    module = ShapesDataModule(**settings(batch_size=1, train_images=1, num_workers=2))
    trainer = pl.Trainer(max_steps=8, max_epochs=-1, accelerator="cpu", logger=False, enable_checkpointing=False)
    module.trainer = trainer
    module.setup("fit")
    sums = [batch["image"].sum().item() for batch in module.train_dataloader()]
    assert len(set(sums)) == 8


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_run_sees_the_rest_of_the_stream(tmp_path, workers, accumulate):
    whole = fit(tmp_path / "whole", accumulate=accumulate, num_workers=workers)
    assert len(whole.shown) == 6 * accumulate
    checkpoint = next((tmp_path / "whole").glob("*step=4.ckpt"))
    rest = fit(tmp_path / "rest", accumulate=accumulate, checkpoint=checkpoint, num_workers=workers)
    assert rest.shown == whole.shown[4 * accumulate :]


def test_training_uses_a_fixed_subset_for_every_seed(tmp_path):
    runs = [fit(tmp_path / str(seed), steps=5, seed=seed) for seed in (1, 2)]  # 5 batches of 4 are two epochs of 10
    shown = [sorted(index for indices, *_ in run.shown for index in indices) for run in runs]
    assert shown[0] == shown[1] == sorted([*range(10), *range(10)])
    assert runs[0].shown != runs[1].shown


def test_validation_shows_whole_pictures_in_order(tmp_path):
    model = fit(tmp_path, steps=2)
    assert model.validated == [(0, (1, 3, 128, 128)), (1, (1, 3, 128, 128))]


def test_pad_colour_is_taken_at_setup():
    module = ShapesDataModule(**settings(short_side=None, crop=160, photometric=False))
    module.pad_color = (10.4, 20.6, 30.0)
    module.setup("fit")
    sample = module.train_set[(0, 0)]
    assert sample["image"][:, -1, -1].tolist() == [10, 21, 30]
    assert sample["mask"][-1, -1] == 255


def test_errors_name_the_setting(tmp_path):
    module = ShapesDataModule(**settings())
    module.setup("fit")
    with pytest.raises(ValueError, match=r"trainer.fit"):
        module.train_dataloader()
    with pytest.raises(ValueError, match=r"trainer.max_steps=-1"):
        fit(tmp_path, steps=-1)
    with pytest.raises(ValueError, match=r"dataset.train_images=513"):
        fit(tmp_path, train_images=513)
    with pytest.raises(TypeError, match="colour_noise"):
        ShapesDataModule(**settings(), colour_noise=1)
