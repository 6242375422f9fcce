"""The pool of threads: concurrent callers, forks, and the default number."""

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import dfpkeras
from dfpkeras import kernels
from dfpkeras.runtime import threads


@pytest.fixture
def operands():
    rng = np.random.default_rng(3)
    x = dfpkeras.quantize(rng.standard_normal((4, 13, 11, 24), dtype=np.float32), bits=14)
    w = dfpkeras.quantize(rng.standard_normal((3, 3, 24, 40), dtype=np.float32), bits=13)
    return x, w


@pytest.fixture
def three_threads():
    before = dfpkeras.get_num_threads()
    dfpkeras.set_num_threads(3)
    yield
    dfpkeras.set_num_threads(before)


def test_concurrent_callers_get_their_own_results(operands, three_threads):
    x, w = operands
    scaled = [dfpkeras.DFPTensor(x.data, x.exponent + shift) for shift in range(8)]
    expected = [kernels.conv2d_forward(s, w, padding="same") for s in scaled]

    def repeat(i):
        return all(
            np.array_equal(kernels.conv2d_forward(scaled[i], w, padding="same"), expected[i])
            for _ in range(50)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(repeat, range(8)))


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted in /proc")
def test_callers_share_one_pool(operands, three_threads):
    x, w = operands
    kernels.conv2d_forward(x, w)
    before = len(os.listdir("/proc/self/task"))
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: kernels.conv2d_forward(x, w), range(60)))
        during = len(os.listdir("/proc/self/task"))
    assert during <= before + 6


def _sum_in_child(connection, x, w):
    connection.send(kernels.conv2d_forward(x, w))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_its_own_workers(operands, three_threads):
    x, w = operands
    expected = kernels.conv2d_forward(x, w)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_sum_in_child, args=(theirs, x, w))
    child.start()
    assert ours.poll(60), "the child hangs"
    np.testing.assert_array_equal(ours.recv(), expected)
    child.join()


def test_variable_sets_the_number_of_threads(run_python_without_keras):
    result = run_python_without_keras(
        "import dfpkeras; print(dfpkeras.get_num_threads())", DFPKERAS_NUM_THREADS="5"
    )
    assert result.stdout.strip() == "5", result.stderr


@pytest.mark.parametrize("text", ["0", "257", "many"])
def test_an_invalid_variable(text, monkeypatch):
    monkeypatch.setenv("DFPKERAS_NUM_THREADS", text)
    with pytest.raises(ValueError, match=rf"DFPKERAS_NUM_THREADS.*expected .*, got '?{text}"):
        threads.set_default()


@pytest.mark.parametrize("number", [0, -1, 257])
def test_number_out_of_range(number):
    with pytest.raises(ValueError, match=rf"num_threads: expected 1 to 256 .* got {number}"):
        dfpkeras.set_num_threads(number)


@pytest.mark.parametrize("number", [1.5, "2", None])
def test_a_number_that_is_not_an_integer(number):
    with pytest.raises(TypeError, match="num_threads: expected an integer"):
        dfpkeras.set_num_threads(number)


def test_quota_of_control_groups_version_2(tmp_path):
    group = tmp_path / "kubepods" / "pod"
    group.mkdir(parents=True)
    (tmp_path / "cgroup").write_text("0::/kubepods/pod\n")
    (group / "cpu.max").write_text("max 100000\n")
    assert threads._cgroup_quota(tmp_path / "cgroup", tmp_path) is None
    (group.parent / "cpu.max").write_text("150000 100000\n")
    assert threads._cgroup_quota(tmp_path / "cgroup", tmp_path) == 1.5


def test_quota_of_control_groups_version_1(tmp_path):
    group = tmp_path / "cpu,cpuacct" / "docker"
    group.mkdir(parents=True)
    (tmp_path / "cgroup").write_text("3:memory:/docker\n2:cpu,cpuacct:/docker\n")
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert threads._cgroup_quota(tmp_path / "cgroup", tmp_path) is None
    (group / "cpu.cfs_quota_us").write_text("300000\n")
    assert threads._cgroup_quota(tmp_path / "cgroup", tmp_path) == 3


def test_a_small_quota_still_gives_one_thread(monkeypatch):
    before = dfpkeras.get_num_threads()
    monkeypatch.delenv("DFPKERAS_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: 0.25)
    monkeypatch.setattr(threads, "count_cpus", lambda: 8)
    threads.set_default()
    assert dfpkeras.get_num_threads() == 1
    assert "quota of 0.25" in threads.reason()
    dfpkeras.set_num_threads(before)
