"""A model directory on the Hugging Face hub."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from codelm.errors import UserError

IGNORED = ["manifest.json"]
"""codelm's own; the card tells what it holds."""


def push_to_hub(directory: Path, repository: str, public: bool) -> str:
    """Upload a model directory as one commit, into a repository that is made if need be.

    The hub's address and the token are those of huggingface_hub: HF_ENDPOINT, HF_TOKEN or `hf auth login`.

    Args:
        directory: as the export stage writes it.
        repository: `owner/name`.
        public: whether a repository that is made is for all to see.

    Returns:
        The commit's address.

    Raises:
        UserError: the hub refuses it, or there is no token.
    """
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise UserError(f"--push-to-hub: {repository!r} is no name on the hub; give OWNER/NAME")
    hub = HfApi()
    try:
        hub.create_repo(repository, private=not public, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=repository,
            folder_path=directory,
            ignore_patterns=IGNORED,
            commit_message=f"Upload {directory.parent.name} by codelm",
        )
    except LocalTokenNotFoundError as error:
        raise UserError(f"--push-to-hub: no token for {hub.endpoint}; set HF_TOKEN, or run `hf auth login`") from error
    except HfHubHTTPError as error:
        raise UserError(
            f"--push-to-hub: {hub.endpoint} refuses {repository!r}: {error.server_message or error}"
        ) from error
    return str(commit.commit_url)
