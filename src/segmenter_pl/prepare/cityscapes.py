"""Cityscapes: pictures and fine annotations, for people with an account of their own."""

import os
from urllib.parse import urljoin, urlsplit

import requests

from segmenter_pl.data.cityscapes import CityscapesDataModule
from segmenter_pl.prepare.download import TIMEOUT
from segmenter_pl.prepare.recipe import Archive, Recipe, pairs

SITE = "https://www.cityscapes-dataset.com"
PACKAGES = {"leftImg8bit_trainvaltest.zip": 3, "gtFine_trainvaltest.zip": 1}
USERNAME, PASSWORD = "CITYSCAPES_USERNAME", "CITYSCAPES_PASSWORD"
TERMS = """\
Cityscapes is for non-commercial use by people who have an account there and have agreed to its licence; neither the
data nor what is derived from it may be passed on. Who uses it cites Cordts et al., CVPR 2016."""
BY_HAND = (
    f"By hand: download {' and '.join(PACKAGES)} from {SITE}/downloads/ with your account, and give both with "
    "--source FOLDER"
)


def recipe() -> Recipe:
    """leftImg8bit and gtFine of all three parts."""
    return Recipe(
        key="cityscapes",
        terms=TERMS,
        by_hand=BY_HAND,
        archives=tuple(Archive(name, f"{SITE}/file-handling/?packageID={k}") for name, k in PACKAGES.items()),
        brings=("leftImg8bit", "gtFine"),
        count=pairs(CityscapesDataModule, ("train", "val", "test")),
        sizes=CityscapesDataModule.sizes,
        session=login,
    )


def login() -> requests.Session:
    """A session with the cookies of the account that the two environment variables name.

    The password is in one request and nowhere else: no file, no message.

    Raises: ValueError without the variables, or where they are refused; OSError without a network.
    """
    username, password = os.environ.get(USERNAME), os.environ.get(PASSWORD)
    if not username or not password:
        raise ValueError(
            f"Cityscapes is given to people with an account. {BY_HAND}; or set {USERNAME} and {PASSWORD} in the "
            "environment, and it is downloaded with them"
        )
    session = requests.Session()
    try:
        session.get(f"{SITE}/login/", timeout=TIMEOUT)  # sets the cookies that the form is answered with
        form = {"username": username, "password": password, "submit": "Login"}
        # A redirect would carry the form to wherever it leads: it is followed without it, and on this site only.
        answer = session.post(f"{SITE}/login/", data=form, timeout=TIMEOUT, allow_redirects=False)
        if answer.is_redirect:
            answer = session.get(_on_site(answer.headers["Location"]), timeout=TIMEOUT, allow_redirects=False)
    except requests.RequestException as error:
        raise OSError(f"{SITE} cannot be reached for the login ({type(error).__name__}). {BY_HAND}") from None
    if not answer.ok:
        raise OSError(f"{SITE}/login/ answers {answer.status_code} {answer.reason}: try later. {BY_HAND}")
    if not answer.is_redirect and 'name="password"' in answer.text:
        raise ValueError(f"{SITE} refused the login: check {USERNAME} and {PASSWORD}. {BY_HAND}")
    return session


def _on_site(location: str) -> str:
    """The address that a redirect names, if it is of the site. Raises: ValueError."""
    address = urljoin(f"{SITE}/login/", location)
    if urlsplit(address)[:2] != urlsplit(SITE)[:2]:
        raise ValueError(f"{SITE} leads the login elsewhere ({urlsplit(address).netloc}): not followed. {BY_HAND}")
    return address
