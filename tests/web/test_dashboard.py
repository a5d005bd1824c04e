"""The dashboard: figures of the fleet, what needs a look, and what it costs."""

from datetime import timedelta

from django.urls import reverse
from django.utils import timezone

from nodes.models import Event
from nodes.web.pictures import strip
from nodes.web.views import dashboard
from tests.factories import grant, make_node, make_operation, make_snapshot

GIB = 1 << 30


def test_an_empty_fleet_says_what_to_do(admin_page, read):
    page = read(admin_page.get(reverse("dashboard")))
    assert "No nodes yet" in page.text
    assert reverse("node-add") in page.links


def test_figures_are_over_the_nodes_of_which_they_are_known(admin_page):
    known = {"observed_at": timezone.now(), "problem_count": 0}
    make_node(
        "a",
        cpu_threads=100,
        cpu_used_percent=10.0,
        memory_total_bytes=4 * GIB,
        memory_used_bytes=GIB,
        **known,
    )
    make_node(
        "b",
        cpu_threads=300,
        cpu_used_percent=50.0,
        memory_total_bytes=4 * GIB,
        memory_used_bytes=GIB,
        **known,
    )
    make_node("silent", cpu_threads=64, vm_count=3, vm_running_count=2)
    fleet = admin_page.get(reverse("dashboard")).context["fleet"]
    assert fleet.nodes == 3
    assert fleet.cpu_percent == 40.0
    assert (fleet.threads, fleet.threads_measured) == (464, 400)
    assert fleet.memory_percent == 25.0
    assert (fleet.vms, fleet.vms_running) == (3, 2)


def test_what_a_host_that_is_off_last_told_is_no_use_and_no_room(admin_page, read):
    figures = {"cpu_threads": 64, "cpu_used_percent": 50.0, "memory_total_bytes": 4 * GIB}
    figures |= {"memory_used_bytes": GIB, "vm_count": 5, "vm_running_count": 4}
    make_node("on", **figures)
    make_node("off", connection="offline", connection_reason="powered_off", **figures)
    answer = admin_page.get(reverse("dashboard"))
    fleet = answer.context["fleet"]
    assert (fleet.nodes, fleet.threads, fleet.threads_busy, fleet.threads_free) == (2, 64, 32, 32)
    assert (fleet.memory_bytes, fleet.memory_free_bytes) == (4 * GIB, 3 * GIB)
    assert (fleet.vms, fleet.vms_running) == (10, 4)
    assert "32 of 64 threads, 32 free" in read(answer).text


def test_every_line_that_needs_a_look_is_counted_and_those_read_can_be_opened(admin_page, read):
    for number in range(dashboard.MOST_LINES + 9):
        make_node(f"kvm-{number:02d}", connection="offline", connection_reason="unreachable")
    answer = admin_page.get(reverse("dashboard"))
    assert len(answer.context["attention"]) == dashboard.SHOWN
    rest = dashboard.MOST_LINES - dashboard.SHOWN
    assert len(answer.context["attention_rest"]) == rest
    text = read(answer).text
    assert f"and {rest + 9} more" in text
    assert "9 of them are not listed here" in text


def test_a_fleet_that_tells_nothing_shows_unknown_and_not_zero(admin_page, read):
    make_node("a")
    answer = admin_page.get(reverse("dashboard"))
    assert answer.context["fleet"].cpu_percent is None
    assert "Unknown" in read(answer).text
    assert "0 %" not in read(answer).text


def test_what_needs_a_look_comes_worst_first(admin_page):
    now = timezone.now()
    well = {"observed_at": now, "problem_count": 0}
    make_node("well", **well)
    make_node("stale", observed_at=now - timedelta(hours=9), problem_count=0)
    make_node("down", connection="offline", connection_reason="unreachable", connection_since=now, **well)
    make_node("new", connection="unknown", **well)
    make_node("resting", scheduling="maintenance", scheduling_since=now - timedelta(days=20), **well)
    make_node("just", scheduling="maintenance", scheduling_since=now, **well)
    make_operation(None, status="failed", node_name="well")
    lines = admin_page.get(reverse("dashboard")).context["attention"]
    assert [line.tone for line in lines] == ["bad", "bad", "unknown", "warn", "warn"]
    names = [line.name for line in lines]
    assert sorted(names[:2]) == ["Refresh the inventory of well", "down"]
    assert names[2] == "new"
    assert sorted(names[3:]) == ["resting", "stale"]


def test_failing_disks_of_any_node_need_a_look(admin_page, stranger_page):
    make_snapshot(make_node("kvm-01"), "large")
    page = admin_page.get(reverse("dashboard"))
    lines = [line for line in page.context["attention"] if "disk" in line.words]
    assert [line.tone for line in lines] == ["bad", "warn", "warn"]
    assert all(line.url == reverse("node-section", args=["kvm-01", "disks"]) for line in lines)
    assert "failing disk" not in stranger_page.get(reverse("dashboard")).content.decode()


def test_all_is_well_is_said(admin_page):
    make_node("well", observed_at=timezone.now(), problem_count=0)
    assert "All is well." in admin_page.get(reverse("dashboard")).content.decode()


def test_an_operators_dashboard_is_of_their_nodes(operator_page, operator):
    mine, other = make_node("mine"), make_node("other", connection="offline")
    grant(operator, mine, "view_node")
    Event.objects.create(kind="x", message="about the other", node=other, node_name="other")
    page = operator_page.get(reverse("dashboard"))
    assert page.context["fleet"].nodes == 1
    assert "other" not in page.content.decode().replace("another", "")


def test_it_costs_the_same_however_large_the_fleet_is(admin_page, django_assert_num_queries):
    def build(first, last):
        for number in range(first, last):
            connection = "offline" if number % 3 else "online"
            scheduling = "maintenance" if number % 5 == 0 else "enabled"
            make_node(
                f"kvm-{number:02d}", connection=connection, scheduling=scheduling, scheduling_reason="x"
            )
            make_operation(None, status="failed")

    build(0, 2)
    admin_page.get(reverse("dashboard"))
    # Session, user, permissions, sums, strip, attention, disks, failures, events of people and of hosts,
    # monitors, and what runs.
    with django_assert_num_queries(12):
        admin_page.get(reverse("dashboard"))
    build(2, 40)
    with django_assert_num_queries(12):
        admin_page.get(reverse("dashboard"))


def test_a_monitor_that_may_be_cut_off_is_told_before_anything_else(admin_page):
    from nodes.models.monitor import MonitorProcess

    make_node("kvm-01", connection="offline")
    now = timezone.now()
    monitor = MonitorProcess.objects.create(name="m", lease_expires_at=now + timedelta(seconds=20))
    words = "The monitor may be cut off"
    assert words not in admin_page.get(reverse("dashboard")).content.decode()
    MonitorProcess.objects.update(cut_off_since=now)
    assert words in admin_page.get(reverse("dashboard")).content.decode()
    # One that has died says nothing about now.
    MonitorProcess.objects.filter(pk=monitor.pk).update(lease_expires_at=now - timedelta(seconds=1))
    assert words not in admin_page.get(reverse("dashboard")).content.decode()


def test_the_strip_still_fits_at_two_thousand_nodes(db):
    from nodes.models import Node

    nodes = [Node(name=f"kvm-{number}", connection="online", cpu_used_percent=96.0) for number in range(2000)]
    drawn = strip.draw(nodes)
    assert drawn.width <= strip.WIDTH
    assert drawn.height < 350
    assert drawn.size >= strip.SMALLEST
    assert len({(square.x, square.y) for square in drawn.squares}) == 2000
    assert drawn.squares[0].level == 3
    assert strip.draw([]) is None
