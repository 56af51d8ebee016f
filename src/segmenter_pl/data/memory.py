"""How much memory there is to take."""

from pathlib import Path


def available_memory() -> int | None:
    """Bytes that processes may still take, within the limits of a container; None where the system does not say."""
    try:
        facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        available = 1024 * int(facts["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None
    groups = Path("/sys/fs/cgroup")
    for limit, used, reclaimable in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            stat = (groups / limit).with_name("memory.stat").read_text().split()
            taken = int((groups / used).read_text()) - int(stat[stat.index(reclaimable) + 1])
            available = min(available, int((groups / limit).read_text()) - taken)
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return available
