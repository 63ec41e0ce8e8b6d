"""What may still be used of memory, and what the kernel ended for want of it, by files as Linux has them."""

from __future__ import annotations

from pathlib import Path

from llem.devices.memory import free_bytes, oom_kills


def put(root: Path, files: dict[str, str]) -> Path:
    """Write them."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_the_narrowest_limit_counts(tmp_path: Path) -> None:
    """Of this group and those around it; what holds pages of files can be given back."""
    root = put(
        tmp_path,
        {
            "proc/self/cgroup": "0::/jobs/7\n",
            "sys/fs/cgroup/jobs/7/memory.max": "max\n",
            "sys/fs/cgroup/jobs/7/memory.current": "500\n",
            "sys/fs/cgroup/jobs/memory.max": "1000\n",
            "sys/fs/cgroup/jobs/memory.current": "700\n",
            "sys/fs/cgroup/jobs/memory.stat": "anon 600\ninactive_file 50\n",
        },
    )
    assert free_bytes(root) == 350


def test_version_1_of_control_groups(tmp_path: Path) -> None:
    """Their files have other names."""
    root = put(
        tmp_path,
        {
            "proc/self/cgroup": "4:cpu,memory:/job\n3:cpuset:/\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "1000\n",
            "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "900\n",
            "sys/fs/cgroup/memory/job/memory.stat": "total_inactive_file 20\n",
            "sys/fs/cgroup/memory/job/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
            "proc/vmstat": "oom_kill 9\n",
        },
    )
    assert free_bytes(root) == 120
    assert oom_kills(root) == 3
    assert oom_kills(root, elsewhere=True) == 9


def test_without_limits_the_machine_counts(tmp_path: Path) -> None:
    """And where it tells nothing, nothing is known."""
    assert oom_kills(tmp_path) is None
    assert free_bytes(tmp_path) > 2**20
    root = put(tmp_path, {"proc/self/cgroup": "0::/\n", "proc/vmstat": "pgpgin 5\noom_kill 2\n"})
    assert oom_kills(root) == 2
