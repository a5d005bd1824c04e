"""Whether a target's processor has all that a VM with the source's own one may use."""

from __future__ import annotations

import pytest

from nodes.hosts.libvirt.host_cpu import HostCpu, parse_cpu_lines, parse_expanded
from nodes.operations.plan.constraints import cpu_passthrough
from tests.operations.plan.constraints.states import codes, found, source, target, vm

INTEL = """vendor_id : GenuineIntel
model name : Intel(R) Xeon(R) Gold 6226
flags : fpu sse2 avx avx2 avx512f avx512bw hypervisor constant_tsc hwp est
vendor_id : AuthenticAMD
flags : none of these
"""
ARM = "Features : fp asimd sve\nCPU implementer : 0x41\nCPU part : 0xd40\n"


def cpu(text: str = INTEL, *, lacks: str = "", has: str = "", maker: str | None = None) -> HostCpu:
    read = parse_cpu_lines(text)
    assert read is not None
    return HostCpu(maker or read.maker, (read.flags | set(has.split())) - set(lacks.split()), read.of_kernel)


def given(mode: str, features: str = "", kind: str = "kvm"):
    made = vm(more=f"<cpu mode='{mode}'>{features}</cpu>")
    made.element.set("type", kind)
    return made


def judged(here, there, *, mode="host-passthrough", features="", kind="kvm"):
    return found(cpu_passthrough.check, given(mode, features, kind), source(cpu=here), target(cpu=there))


@pytest.mark.parametrize("mode", ["host-passthrough", "maximum"])
def test_a_vm_with_the_hosts_processor_goes_where_every_flag_of_it_is(mode):
    assert judged(cpu(), cpu(has="amx_tile"), mode=mode) == judged(cpu(), cpu(), mode=mode)
    assert codes(judged(cpu(), cpu(), mode=mode)) == []
    lacking = judged(cpu(), cpu(lacks="avx512f avx512bw"), mode=mode)
    assert codes(lacking) == ["cpu_incompatible"]
    (reason,) = lacking.reasons
    assert reason.message == "lacks 2 processor flags of kvm-1: avx512bw, avx512f"
    assert reason.remedy


def test_what_linux_sets_by_itself_or_no_guest_is_given_keeps_no_vm_away():
    richer = INTEL.replace("avx512bw", "avx512bw retpoline rep_good epb")
    assert richer != INTEL and not judged(cpu(richer), cpu()).reasons


def test_a_flag_that_the_vm_goes_without_is_not_asked_of_the_target():
    without = "<feature policy='disable' name='avx512f'/>"
    assert not judged(cpu(), cpu(lacks="avx512f"), features=without).reasons
    with_it = "<feature policy='require' name='avx512f'/>"
    assert judged(cpu(), cpu(lacks="avx512f"), features=with_it).reasons


def test_a_processor_of_another_maker_is_refused_whatever_its_flags():
    (reason,) = judged(cpu(), cpu(maker="AuthenticAMD")).reasons
    assert "AuthenticAMD, not GenuineIntel" in reason.message
    assert codes(judged(cpu(ARM), cpu(ARM.replace("0xd40", "0xd0c")))) == ["cpu_incompatible"]


def test_many_missing_flags_are_counted_and_some_are_named():
    names = " ".join(f"flag{number:02d}" for number in range(25))
    (reason,) = judged(cpu(has=names), cpu()).reasons
    assert reason.message.startswith("lacks 25 processor flags") and reason.message.endswith("flag09 …")


@pytest.mark.parametrize(("here", "there"), [(None, "read"), ("read", None), (None, None)])
def test_where_a_processor_could_not_be_read_that_is_a_note(here, there):
    findings = judged(here and cpu(), there and cpu())
    assert not findings.reasons
    (note,) = findings.notes
    assert note.startswith("Not verified")
    assert ("kvm-1" in note, "kvm-2" in note) == (here is None, there is None)


def test_flags_of_the_kernel_and_of_libvirt_are_not_compared_with_each_other():
    told = parse_expanded("<cpu><vendor>Intel</vendor><feature policy='require' name='sse2'/></cpu>")
    assert told == HostCpu("Intel", frozenset({"sse2"}), of_kernel=False)
    assert judged(cpu(), told).notes and not judged(cpu(), told).reasons
    assert not judged(told, told).notes


def test_other_processors_are_none_of_its_business():
    for mode in ("custom", "host-model"):
        assert judged(cpu(), cpu(lacks="avx2"), mode=mode) == judged(cpu(), cpu(), mode=mode)
        assert not judged(cpu(), cpu(lacks="avx2"), mode=mode).notes
    assert found(cpu_passthrough.check, vm(), source(), target()).notes == ()
    (note,) = judged(cpu(), cpu(), mode="maximum", kind="qemu").notes
    assert "QEMU" in note


def test_a_cpuinfo_without_flags_is_unknown():
    assert parse_cpu_lines("processor : 0\n") is None
    assert parse_expanded("") is None and parse_expanded("<cpu/>") is None
