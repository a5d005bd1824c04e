"""What one smartctl output tells of its drive; cases by hand after smartctl(8) and its JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.inventory.plain import to_plain
from nodes.inventory.smart import EXIT_BITS, Health, SmartFacts, SmartState, exit_bits, parse_smart


def nvme(exit_status: int = 0, passed: bool | None = True, **log: Any) -> str:
    tree = {
        "json_format_version": [1, 0],
        "smartctl": {"version": [7, 3], "exit_status": exit_status},
        "device": {"name": "/dev/nvme0n1", "type": "nvme", "protocol": "NVMe"},
        "model_name": "Example NVMe 1TB",
        "serial_number": "N1",
        "firmware_version": "1.0",
        "nvme_version": {"string": "1.4", "value": 66560},
        "nvme_smart_health_information_log": {
            "critical_warning": 0,
            "temperature": 41,
            "available_spare": 100,
            "available_spare_threshold": 10,
            "percentage_used": 7,
            "data_units_read": 2_000,
            "data_units_written": 3_000,
            "host_reads": 11,
            "host_writes": 12,
            "power_cycles": 5,
            "power_on_hours": 1234,
            "unsafe_shutdowns": 2,
            "media_errors": 0,
            "num_err_log_entries": 9,
            **log,
        },
    }
    if passed is not None:
        tree["smart_status"] = {"passed": passed, "nvme": {"value": log.get("critical_warning", 0)}}
    return json.dumps(tree)


def attribute(number: int, name: str, value: int = 100, raw: str = "0", **more: Any) -> dict[str, Any]:
    row = {"id": number, "name": name, "value": value, "worst": value, "thresh": 0, "when_failed": ""}
    row |= {"flags": {"value": 50, "prefailure": False}, "raw": {"string": raw}}
    return row | more


def ata(*attributes: dict[str, Any], exit_status: int = 0, passed: Any = True, **more: Any) -> str:
    tree: dict[str, Any] = {
        "smartctl": {"exit_status": exit_status},
        "device": {"type": "sat", "protocol": "ATA"},
        "model_name": "Example SSD",
        "in_smartctl_database": True,
        "rotation_rate": 0,
        "logical_block_size": 512,
        "smart_status": {"passed": passed},
        "ata_smart_attributes": {"revision": 16, "table": list(attributes)},
    }
    return json.dumps(tree | more)


def codes(facts: SmartFacts) -> list[str]:
    return [reason.code for reason in facts.reasons]


class TestNvme:
    def test_a_sound_drive_is_healthy_with_the_numbers_of_its_log(self) -> None:
        facts = parse_smart(nvme())
        assert (facts.state, facts.health, codes(facts)) == (SmartState.READ, Health.HEALTHY, ["passed"])
        assert (facts.temperature_celsius, facts.power_on_hours, facts.power_cycles) == (41, 1234, 5)
        assert (facts.wear_used_percent, facts.life_remaining_percent) == (7, 93)
        assert (facts.read_bytes, facts.written_bytes) == (1_024_000_000, 1_536_000_000)
        assert (facts.read_operations, facts.write_operations) == (11, 12)
        assert (facts.interface, facts.rotation_rpm, facts.error_log_count) == ("NVMe 1.4", 0, 9)

    def test_entries_in_its_error_log_alone_are_no_warning(self) -> None:
        assert parse_smart(nvme(num_err_log_entries=4000)).health is Health.HEALTHY

    @pytest.mark.parametrize(
        ("bit", "code", "health"),
        [
            (0x01, "critical_warning_spare_below_threshold", Health.FAILED),
            (0x02, "critical_warning_temperature", Health.WARNING),
            (0x04, "critical_warning_reliability_degraded", Health.FAILED),
            (0x08, "critical_warning_media_read_only", Health.FAILED),
            (0x10, "critical_warning_volatile_memory_backup_failed", Health.FAILED),
            (0x20, "critical_warning_persistent_memory_unreliable", Health.WARNING),
        ],
    )
    def test_each_critical_warning_has_its_reason(self, bit: int, code: str, health: Health) -> None:
        without_status = parse_smart(nvme(critical_warning=bit, passed=None))
        assert (without_status.health, codes(without_status)[0]) == (health, code)

    def test_a_warning_that_smartctl_calls_failed_is_failed(self) -> None:
        facts = parse_smart(nvme(exit_status=8, passed=False, critical_warning=2))
        assert facts.health is Health.FAILED
        assert codes(facts) == ["failing", "critical_warning_temperature"]

    @pytest.mark.parametrize(
        ("used", "life", "health"),
        [
            (0, 100, Health.HEALTHY),
            (89, 11, Health.HEALTHY),
            (90, 10, Health.WARNING),
            (100, 0, Health.WARNING),
            (137, 0, Health.WARNING),
        ],
    )
    def test_wear_counts_past_a_hundred_and_life_never_below_nothing(
        self, used: int, life: int, health: Health
    ) -> None:
        facts = parse_smart(nvme(percentage_used=used))
        assert (facts.wear_used_percent, facts.life_remaining_percent, facts.health) == (used, life, health)

    def test_spare_below_the_threshold_warns_where_the_drive_does_not(self) -> None:
        facts = parse_smart(nvme(available_spare=4))
        assert codes(facts) == ["spare_below_threshold"]
        assert (facts.reasons[0].value, facts.reasons[0].limit) == (4, 10)

    def test_media_errors_warn(self) -> None:
        assert codes(parse_smart(nvme(media_errors=3))) == ["media_errors"]

    def test_kelvins_of_other_tools_become_degrees_and_absolute_zero_is_no_temperature(self) -> None:
        assert parse_smart(nvme(temperature=314)).temperature_celsius == 41
        assert parse_smart(nvme(temperature=-273)).temperature_celsius is None

    def test_limits_of_the_drive_itself_judge_the_temperature(self) -> None:
        tree = json.loads(nvme(temperature=75))
        assert parse_smart(json.dumps(tree)).health is Health.HEALTHY
        tree["nvme_composite_temperature_threshold"] = {"warning": 70, "critical": 80}
        facts = parse_smart(json.dumps(tree))
        assert (facts.health, codes(facts), facts.reasons[0].limit) == (
            Health.WARNING,
            ["temperature_high"],
            70,
        )

    def test_counters_beyond_53_bits_are_exact(self) -> None:
        facts = parse_smart(nvme(host_reads=None, host_reads_s="170141183460469231731687303715884105727"))
        assert facts.read_operations == 2**127 - 1

    def test_a_failed_self_test_warns_until_one_succeeds(self) -> None:
        def entry(result: int) -> dict[str, Any]:
            text = {"value": result, "string": "x"}
            return {
                "self_test_code": {"value": 1, "string": "Short"},
                "self_test_result": text,
                "power_on_hours": 9,
            }

        tree = json.loads(nvme())
        tree["nvme_self_test_log"] = {"table": [entry(7), entry(0)]}
        assert codes(parse_smart(json.dumps(tree))) == ["self_test_failed"]
        tree["nvme_self_test_log"] = {"table": [entry(0), entry(7)]}
        facts = parse_smart(json.dumps(tree))
        assert facts.health is Health.HEALTHY
        assert facts.self_tests is not None
        assert (facts.self_tests.count, facts.self_tests.failed) == (2, 0)


class TestAta:
    @pytest.mark.parametrize(
        ("number", "name", "value", "raw", "used"),
        [
            (233, "Media_Wearout_Indicator", 99, "0", 1),
            (177, "Wear_Leveling_Count", 97, "41", 3),
            (173, "Wear_Leveling_Count", 60, "1200", 40),
            (202, "Percent_Lifetime_Remain", 88, "12", 12),
            (202, "Percent_Lifetime_Used", 92, "8", 8),
            (202, "Perc_Rated_Life_Used", 0, "104", 104),
            (169, "Remaining_Lifetime_Perc", 100, "96", 4),
            (231, "SSD_Life_Left", 94, "94", 6),
            (231, "SSD_Life_Left", 99, "1", 1),
            (231, "SSD_Life_Left", 100, "0", 0),
            (248, "Perc_Rated_Life_Remain", 100, "100", 0),
            (209, "Remaining_Lifetime_Perc", 98, "98", 2),
        ],
    )
    def test_wear_by_vendor_attributes(self, number: int, name: str, value: int, raw: str, used: int) -> None:
        facts = parse_smart(ata(attribute(number, name, value, raw)))
        assert (facts.wear_used_percent, facts.life_remaining_percent) == (used, max(0, 100 - used))
        assert facts.wear_source == f"{number} {name}"

    @pytest.mark.parametrize(
        ("number", "name", "value", "raw"),
        [
            (230, "Media_Wearout_Indicator", 1, "0x002600140026"),
            (241, "Lifetime_Writes_GiB", 100, "12"),
            (233, "Lifetime_Wts_To_Flsh_GB", 100, "12"),
            (226, "Workld_Media_Wear_Indic", 100, "65535"),
            (173, "Wear_Leveling_Count", 197, "9"),
        ],
    )
    def test_what_is_no_percentage_of_wear_is_none(
        self, number: int, name: str, value: int, raw: str
    ) -> None:
        facts = parse_smart(ata(attribute(number, name, value, raw)))
        assert (facts.wear_used_percent, facts.life_remaining_percent) == (None, None)

    def test_default_names_of_an_unknown_drive_tell_nothing_at_a_hundred(self) -> None:
        text = ata(attribute(177, "Wear_Leveling_Count", 100, "0"), in_smartctl_database=False)
        assert parse_smart(text).wear_used_percent is None
        samsung = text.replace("Example SSD", "SAMSUNG MZ7L3480HCHQ")
        assert parse_smart(samsung).wear_used_percent == 0

    def test_device_statistics_go_before_attributes(self) -> None:
        def stat(name: str, value: int, valid: bool = True) -> dict[str, Any]:
            return {"name": name, "value": value, "flags": {"valid": valid}}

        general = [
            stat("Logical Sectors Written", 1000),
            stat("Number of Write Commands", 10),
            stat("Logical Sectors Read", 2000),
            stat("Number of Read Commands", 20),
        ]
        pages = [
            {"number": 1, "table": general},
            {"number": 7, "table": [stat("Percentage Used Endurance Indicator", 101)]},
        ]
        rows = (attribute(233, "Media_Wearout_Indicator", 50), attribute(241, "Host_Writes_32MiB", 100, "7"))
        facts = parse_smart(ata(*rows, ata_device_statistics={"pages": pages}, logical_block_size=4096))
        assert (facts.wear_used_percent, facts.wear_source) == (101, "device_statistics")
        assert (facts.written_bytes, facts.read_bytes) == (1000 * 4096, 2000 * 4096)
        assert (facts.write_operations, facts.read_operations) == (10, 20)
        pages[1]["table"] = [stat("Percentage Used Endurance Indicator", 0, valid=False)]
        facts = parse_smart(ata(*rows, ata_device_statistics={"pages": pages}))
        assert facts.wear_used_percent == 50

    @pytest.mark.parametrize(
        ("name", "unit"),
        [
            ("Host_Writes_32MiB", 32 << 20),
            ("Total_LBAs_Written", 512),
            ("Lifetime_Writes_GiB", 1 << 30),
            ("Lifetime_Wts_Frm_Hst_GB", 10**9),
        ],
    )
    def test_amounts_take_the_unit_of_their_name(self, name: str, unit: int) -> None:
        assert parse_smart(ata(attribute(241, name, 100, "5"))).written_bytes == 5 * unit
        assert parse_smart(ata(attribute(243, "NAND_Writes_1GiB", 100, "5"))).written_bytes is None

    def test_an_unknown_unit_is_not_guessed(self) -> None:
        rows = attribute(241, "Total_LBAs_Written", 100, "5")
        assert parse_smart(ata(rows, in_smartctl_database=False)).written_bytes is None
        assert parse_smart(ata(rows, in_smartctl_database=False, rotation_rate=7200)).written_bytes == 2560

    def test_a_prefail_attribute_at_its_threshold_has_failed_the_drive_though_it_says_passed(self) -> None:
        row = attribute(
            5, "Reallocated_Sector_Ct", 10, "90", thresh=10, flags={"prefailure": True}, when_failed="now"
        )
        facts = parse_smart(ata(row, exit_status=16))
        assert facts.health is Health.FAILED
        assert codes(facts) == ["prefail_attribute", "reallocated_sectors"]
        assert (facts.reasons[0].value, facts.reasons[0].limit) == (10, 10)

    def test_an_old_age_attribute_at_its_threshold_warns(self) -> None:
        row = attribute(190, "Airflow_Temperature_Cel", 40, "60", thresh=45, when_failed="now")
        assert codes(parse_smart(ata(row, exit_status=32))) == ["old_age_attribute"]

    def test_thresholds_are_compared_where_smartctl_did_not(self) -> None:
        row = attribute(10, "Spin_Retry_Count", 90, "3", thresh=97, when_failed=None, flags={"value": 19})
        assert codes(parse_smart(ata(row))) == ["prefail_attribute"]
        past = attribute(10, "Spin_Retry_Count", 100, "3", thresh=97, worst=96)
        assert codes(parse_smart(ata(past))) == ["attribute_in_past"]

    def test_a_threshold_of_zero_never_fails(self) -> None:
        assert parse_smart(ata(attribute(3, "Spin_Up_Time", 0, "0", thresh=0))).health is Health.HEALTHY

    @pytest.mark.parametrize(
        ("number", "name", "code"),
        [
            (5, "Reallocated_Sector_Ct", "reallocated_sectors"),
            (197, "Current_Pending_Sector", "pending_sectors"),
            (198, "Offline_Uncorrectable", "uncorrectable_sectors"),
            (187, "Reported_Uncorrect", "media_errors"),
            (184, "End-to-End_Error", "end_to_end_errors"),
        ],
    )
    def test_bad_sectors_warn(self, number: int, name: str, code: str) -> None:
        facts = parse_smart(ata(attribute(number, name, 100, "8 (2 1)")))
        assert (facts.health, codes(facts), facts.reasons[0].value) == (Health.WARNING, [code], 8)

    def test_numbers_used_for_something_else_are_no_bad_sectors(self) -> None:
        rows = attribute(197, "Current_Pending_ECC_Cnt", 100, "1"), attribute(198, "Host_Reads_GiB", 100, "9")
        assert parse_smart(ata(*rows)).health is Health.HEALTHY

    def test_errors_of_the_cable_are_counted_and_no_warning(self) -> None:
        facts = parse_smart(ata(attribute(199, "UDMA_CRC_Error_Count", 200, "12")))
        assert (facts.health, facts.interface_crc_errors) == (Health.HEALTHY, 12)

    def test_temperature_and_hours_come_from_attributes_where_no_member_has_them(self) -> None:
        rows = (
            attribute(194, "Temperature_Celsius", 64, "36 (Min/Max 14/51)"),
            attribute(9, "Power_On_Hours", 90, "77h+12m"),
        )
        facts = parse_smart(ata(*rows))
        assert (facts.temperature_celsius, facts.power_on_hours) == (36, 77)
        packed = attribute(194, "Temperature_Celsius", 64)
        packed["raw"] = {"value": (51 << 32) + (14 << 16) + 36}
        assert parse_smart(ata(packed)).temperature_celsius == 36

    def test_hours_that_no_drive_has_lived_are_unknown(self) -> None:
        assert parse_smart(ata(power_on_time={"hours": 2**40})).power_on_hours is None

    def test_link_speeds_are_megabits(self) -> None:
        speed = {"units_per_second": 60, "bits_per_unit": 100000000}
        facts = parse_smart(ata(interface_speed={"max": speed}, sata_version={"string": "SATA 3.2"}))
        assert (facts.interface_speed_mbps, facts.interface_max_speed_mbps) == (None, 6000)

    def test_a_failed_self_test_warns_unless_a_later_one_outdates_it(self) -> None:
        table = [{"type": {"string": "Short offline"}, "status": {"value": 0x79, "string": "read failure"}}]
        log = {"extended": {"count": 1, "error_count_total": 1, "error_count_outdated": 0, "table": table}}
        facts = parse_smart(ata(exit_status=128, ata_smart_self_test_log=log))
        assert (facts.health, codes(facts)) == (Health.WARNING, ["self_test_failed"])
        assert "read failure" in facts.reasons[0].message
        log["extended"]["error_count_outdated"] = 1
        assert parse_smart(ata(ata_smart_self_test_log=log)).health is Health.HEALTHY

    def test_a_failed_self_test_is_told_without_a_log(self) -> None:
        status = {"value": 0x73, "string": "completed having the read element failed", "passed": False}
        facts = parse_smart(ata(ata_smart_data={"self_test": {"status": status}}))
        assert codes(facts) == ["self_test_failed"]
        assert "read element" in facts.reasons[0].message

    def test_a_running_self_test_is_told(self) -> None:
        data = {"self_test": {"status": {"value": 246, "remaining_percent": 60}}}
        facts = parse_smart(ata(ata_smart_data=data))
        assert facts.self_tests is not None
        assert facts.self_tests.remaining_percent == 60


class TestScsi:
    def tree(self, **more: Any) -> dict[str, Any]:
        return {
            "smartctl": {"exit_status": 0},
            "device": {"type": "megaraid,4", "protocol": "SCSI"},
            "scsi_vendor": "ACME",
            "scsi_product": "SAS900",
            "scsi_revision": "A1",
            "scsi_transport_protocol": {"name": "SAS (SPL-4)", "value": 6},
            "logical_unit_id": "0x5000c500a1b2c3d4",
            "rotation_rate": 10500,
            "smart_status": {"passed": True},
            "temperature": {"current": 33, "drive_trip": 68},
            "power_on_time": {"hours": 500, "minutes": 3},
            "scsi_grown_defect_list": 0,
            "scsi_error_counter_log": {
                "read": {"gigabytes_processed": "1.500", "total_uncorrected_errors": 0},
                "write": {"gigabytes_processed": "2.250", "total_uncorrected_errors": 0},
            },
        } | more

    def test_a_sas_disk(self) -> None:
        facts = parse_smart(json.dumps(self.tree()))
        assert (facts.health, facts.model, facts.rotation_rpm) == (Health.HEALTHY, "ACME SAS900", 10500)
        assert (facts.read_bytes, facts.written_bytes) == (1_500_000_000, 2_250_000_000)
        assert (facts.temperature_celsius, facts.temperature_critical_celsius) == (33, 68)
        assert (facts.wear_used_percent, facts.life_remaining_percent) == (None, None)
        assert facts.wwn == "0x5000c500a1b2c3d4"

    def test_wear_of_a_sas_ssd(self) -> None:
        for told in (0, {"percentage_used_endurance_indicator": 0}):
            facts = parse_smart(
                json.dumps(self.tree(scsi_percentage_used_endurance_indicator=told, rotation_rate=0))
            )
            assert (facts.wear_used_percent, facts.life_remaining_percent) == (0, 100)

    def test_grown_defects_and_uncorrected_errors_warn(self) -> None:
        log = {"read": {"total_uncorrected_errors": 2}, "verify": {"total_uncorrected_errors": 1}}
        facts = parse_smart(json.dumps(self.tree(scsi_grown_defect_list=7, scsi_error_counter_log=log)))
        assert codes(facts) == ["reallocated_sectors", "media_errors"]
        assert (facts.reallocated_sectors, facts.media_errors, facts.read_bytes) == (7, 3, None)

    def test_the_length_in_bytes_that_older_versions_print_becomes_a_count(self) -> None:
        def defects(told: int, *version: int) -> int | None:
            smartctl = {"exit_status": 0, "version": list(version)}
            tree = self.tree(smartctl=smartctl, scsi_grown_defect_list=told)
            return parse_smart(json.dumps(tree)).reallocated_sectors

        assert (defects(56, 7, 0), defects(240, 7, 1), defects(0, 7, 1), defects(12, 7, 1)) == (7, 30, 0, 3)
        assert defects(56, 7, 2) == 56

    def test_beyond_the_trip_temperature_it_warns(self) -> None:
        facts = parse_smart(json.dumps(self.tree(temperature={"current": 68, "drive_trip": 68})))
        assert codes(facts) == ["temperature_critical"]

    def test_the_reason_of_a_failure_is_told(self) -> None:
        status = {"passed": False, "scsi": {"asc": 93, "ascq": 16, "ie_string": "HARDWARE IMPENDING FAILURE"}}
        facts = parse_smart(json.dumps(self.tree(smart_status=status)))
        assert facts.health is Health.FAILED
        assert "HARDWARE IMPENDING FAILURE" in facts.reasons[0].message

    def test_a_target_without_a_sensor_has_no_temperature(self) -> None:
        facts = parse_smart(json.dumps(self.tree(temperature={"current": 0, "drive_trip": 0})))
        assert facts.temperature_celsius is None

    def test_failed_self_test(self) -> None:
        first = {
            "code": {"value": 2, "string": "Background long"},
            "result": {"value": 6, "string": "Failed in segment"},
        }
        facts = parse_smart(json.dumps(self.tree(scsi_self_test_0=first)))
        assert codes(facts) == ["self_test_failed"]

    def test_without_an_assessment_it_is_unknown_with_its_numbers(self) -> None:
        tree = self.tree()
        del tree["smart_status"]
        facts = parse_smart(json.dumps(tree))
        assert (facts.health, codes(facts), facts.power_on_hours) == (Health.UNKNOWN, ["no_assessment"], 500)


class TestExitStatus:
    def test_every_bit_has_a_name_in_order(self) -> None:
        assert [exit_bits(1 << bit) for bit in range(8)] == [(name,) for name, _ in EXIT_BITS]
        assert exit_bits(None) == exit_bits(0) == ()

    @pytest.mark.parametrize(
        ("status", "health", "code"),
        [
            (4, Health.HEALTHY, "command_failed"),
            (8, Health.FAILED, "failing"),
            (16, Health.FAILED, "prefail_attribute"),
            (32, Health.WARNING, "attribute_in_past"),
            (64, Health.WARNING, "error_log"),
            (128, Health.WARNING, "self_test_failed"),
        ],
    )
    def test_bits_become_reasons(self, status: int, health: Health, code: str) -> None:
        facts = parse_smart(ata(exit_status=status))
        assert facts.health is health
        assert code in codes(facts)

    def test_the_status_of_the_process_counts_where_the_text_has_none(self) -> None:
        tree = json.loads(ata())
        del tree["smartctl"]
        assert parse_smart(json.dumps(tree), exit_status=8).health is Health.FAILED

    @pytest.mark.parametrize("passed", [False, "false", "FAILED!", 0])
    def test_a_failing_drive_is_failed_however_it_is_written(self, passed: Any) -> None:
        assert parse_smart(ata(passed=passed)).health is Health.FAILED


def said(message: str, exit_status: int = 2) -> str:
    messages = [{"string": message, "severity": "error"}]
    return json.dumps(
        {"smartctl": {"exit_status": exit_status, "messages": messages}, "device": {"type": "scsi"}}
    )


class TestDrivesThatDoNotAnswer:
    @pytest.mark.parametrize(
        ("message", "state"),
        [
            ("Device is in STANDBY mode, exit(2)", SmartState.STANDBY),
            ("Device is in STANDBY (OS) mode, exit(2)", SmartState.STANDBY),
            ("Device is in SLEEP mode, exit(2)", SmartState.STANDBY),
            ("Smartctl open device: /dev/sda failed: Permission denied", SmartState.DENIED),
            ("Smartctl open device: /dev/sdz failed: No such device", SmartState.FAILED),
            ("/dev/sdb: Unknown USB bridge [0x0951:0x1666 (0x110)]", SmartState.UNKNOWN_BRIDGE),
            ("Read Device Identity failed: scsi error unsupported field", SmartState.FAILED),
        ],
    )
    def test_the_message_says_why(self, message: str, state: SmartState) -> None:
        facts = parse_smart(said(message))
        assert (facts.state, facts.health, codes(facts)[0]) == (state, Health.UNKNOWN, state.value)
        assert facts.messages == (message,)

    def test_smart_switched_off(self) -> None:
        tree = {
            "model_name": "X",
            "device": {"protocol": "ATA"},
            "smart_support": {"available": True, "enabled": False},
        }
        assert parse_smart(json.dumps(tree)).state is SmartState.DISABLED

    def test_no_smart_at_all(self) -> None:
        tree = {"scsi_vendor": "QEMU", "device": {"protocol": "SCSI"}, "smart_support": {"available": False}}
        facts = parse_smart(json.dumps(tree))
        assert (facts.state, facts.health) == (SmartState.UNSUPPORTED, Health.UNKNOWN)

    @pytest.mark.parametrize(
        "text", ["", "\n", "{", "[]", "null", "{}", '{"smartctl": []}', "bash: smartctl: not found"]
    )
    def test_what_is_no_output_is_unknown(self, text: str) -> None:
        facts = parse_smart(text, exit_status=127)
        assert facts.health is Health.UNKNOWN
        assert facts.temperature_celsius is None
        assert facts.reasons

    def test_a_warning_before_the_json_does_not_hide_it(self) -> None:
        assert parse_smart("sudo: unable to resolve host a\n" + nvme()).power_on_hours == 1234
        assert parse_smart("\ufeff \n  " + nvme()).power_on_hours == 1234


ATA_TEXT = """\
smartctl 6.6 2017-11-05 r4594 [x86_64-linux-4.19.0] (local build)

=== START OF INFORMATION SECTION ===
Model Family:     Example Disks
Device Model:     EX4000
Serial Number:    Z1
LU WWN Device Id: 5 000c50 0a1b2c3d4
Firmware Version: CC26
User Capacity:    4,000,787,030,016 bytes [4.00 TB]
Sector Sizes:     512 bytes logical, 4096 bytes physical
Rotation Rate:    5980 rpm
SATA Version is:  SATA 3.1, 6.0 Gb/s (current: 3.0 Gb/s)
SMART support is: Available - device has SMART capability.
SMART support is: Enabled

=== START OF READ SMART DATA SECTION ===
SMART overall-health self-assessment test result: PASSED

ID# ATTRIBUTE_NAME          FLAG     VALUE WORST THRESH TYPE      UPDATED  WHEN_FAILED RAW_VALUE
  1 Raw_Read_Error_Rate     0x000f   117   099   006    Pre-fail  Always       -       124
  5 Reallocated_Sector_Ct   0x0033   100   100   010    Pre-fail  Always       -       16
  9 Power_On_Hours          0x0032   080   080   000    Old_age   Always       -       17800
 12 Power_Cycle_Count       0x0032   100   100   020    Old_age   Always       -       77
190 Airflow_Temperature_Cel 0x0022   068   044   045    Old_age   Always   In_the_past 32 (Min/Max 25/33)
194 Temperature_Celsius     0x0022   032   056   000    Old_age   Always       -       32 (0 17 0 0 0)

ATA Error Count: 3
SMART Self-test log structure revision number 1
Num  Test_Description    Status                  Remaining  LifeTime(hours)  LBA_of_first_error
# 1  Short offline       Completed: read failure       90%     17790         123456
# 2  Extended offline    Completed without error       00%     17000         -

Device Statistics (GP Log 0x04)
Page  Offset Size        Value Flags Description
0x01  0x018  6       123456789  ---  Logical Sectors Written
0x05  0x058  1              60  ---  Specified Maximum Operating Temperature
"""
NVME_TEXT = """\
smartctl 6.6 2017-11-05 r4594 [x86_64-linux-4.19.0] (local build)
Model Number:                       Example NVMe
Serial Number:                      S1
SMART overall-health self-assessment test result: FAILED!
- available spare has fallen below threshold
Critical Warning:                   0x01
Temperature:                        38 Celsius
Available Spare:                    3%
Available Spare Threshold:          10%
Percentage Used:                    104%
Data Units Read:                    1,000 [512 MB]
Data Units Written:                 2,000 [1.02 GB]
Power Cycles:                       1,021
Power On Hours:                     24,001
Media and Data Integrity Errors:    0
Warning  Comp. Temp. Threshold:     70 Celsius
"""
SCSI_TEXT = """\
smartctl 6.2 2013-07-26 r3841 [x86_64-linux-3.10.0] (local build)
Vendor:               ACME
Product:              SAS73
Revision:             HPD4
User Capacity:        73,407,865,856 bytes [73.4 GB]
Transport protocol:   SAS
SMART Health Status: OK
Current Drive Temperature:     27 C
Drive Trip Temperature:        65 C
Accumulated power on time, hours:minutes 33333:12 [2000012 minutes]
Elements in grown defect list: 0
Error counter log:
           Errors Corrected by           Total   Correction     Gigabytes    Total
read:      1234        0         0      1234       1234        456.789           0
write:        0        0         0         0          0         12.500           0
Non-medium error count:       10
"""


class TestTextOfOldVersions:
    def test_ata(self) -> None:
        facts = parse_smart(ATA_TEXT, exit_status=224)
        assert (facts.protocol, facts.model, facts.serial, facts.firmware) == ("ata", "EX4000", "Z1", "CC26")
        assert (facts.wwn, facts.capacity_bytes) == ("0x5000c500a1b2c3d4", 4_000_787_030_016)
        assert (facts.interface_speed_mbps, facts.interface_max_speed_mbps) == (3000, 6000)
        assert (facts.temperature_celsius, facts.power_on_hours, facts.power_cycles) == (32, 17800, 77)
        assert (facts.rotation_rpm, facts.temperature_warning_celsius) == (5980, 60)
        assert facts.written_bytes == 123456789 * 512
        assert facts.health is Health.WARNING
        assert codes(facts) == ["attribute_in_past", "reallocated_sectors", "error_log", "self_test_failed"]

    def test_nvme(self) -> None:
        facts = parse_smart(NVME_TEXT, exit_status=8)
        assert (facts.protocol, facts.temperature_celsius, facts.power_on_hours) == ("nvme", 38, 24001)
        assert (facts.wear_used_percent, facts.life_remaining_percent) == (104, 0)
        assert (facts.read_bytes, facts.power_cycles) == (512_000_000, 1021)
        assert facts.health is Health.FAILED
        assert "critical_warning_spare_below_threshold" in codes(facts)

    def test_scsi(self) -> None:
        facts = parse_smart(SCSI_TEXT, exit_status=0)
        assert (facts.protocol, facts.model, facts.health) == ("scsi", "ACME SAS73", Health.HEALTHY)
        assert (facts.temperature_celsius, facts.power_on_hours) == (27, 33333)
        assert (facts.read_bytes, facts.written_bytes) == (456_789_000_000, 12_500_000_000)

    def test_an_impending_failure_of_a_scsi_disk(self) -> None:
        text = SCSI_TEXT.replace("Status: OK", "Status: FIRMWARE IMPENDING FAILURE TOO MANY BLOCK REASSIGNS")
        assert parse_smart(text, exit_status=8).health is Health.FAILED

    def test_a_sleeping_disk(self) -> None:
        text = "smartctl 6.6 2017-11-05 r4594\n\nDevice is in STANDBY mode, exit(2)\n"
        assert parse_smart(text, exit_status=2).state is SmartState.STANDBY

    def test_an_option_that_the_version_does_not_know(self) -> None:
        text = "smartctl 6.6 2017-11-05 r4594\n\n=======> UNRECOGNIZED OPTION: j\n"
        assert parse_smart(text, exit_status=1).state is SmartState.FAILED


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FULL = json.loads(
    ata(attribute(5, "Reallocated_Sector_Ct", 100, "1"), attribute(231, "SSD_Life_Left", 90, "90"))
) | {
    "nvme_smart_health_information_log": json.loads(nvme())["nvme_smart_health_information_log"],
    "scsi_error_counter_log": {"read": {"gigabytes_processed": "1.5", "total_uncorrected_errors": 1}},
    "scsi_self_test_0": {"code": {"value": 1}, "result": {"value": 3}},
    "ata_smart_self_test_log": {"standard": {"table": [{"type": {"string": "x"}, "status": {"value": 0}}]}},
    "ata_device_statistics": {"pages": [{"number": 7, "table": [{"name": "x", "value": 1}]}]},
    "temperature": {"current": 30},
    "interface_speed": {"current": {"units_per_second": 60, "bits_per_unit": 100}},
}


class TestAnyText:
    @given(st.text(max_size=400))
    def test_text_never_raises(self, text: str) -> None:
        assert parse_smart(text).reasons

    @given(TREES)
    def test_json_never_raises_and_becomes_plain(self, tree: Any) -> None:
        to_plain(parse_smart(json.dumps(tree)))

    @settings(max_examples=300)
    @given(st.data())
    def test_any_member_may_be_anything(self, data: st.DataObject) -> None:
        tree = json.loads(json.dumps(FULL))
        tree["device"]["protocol"] = data.draw(st.sampled_from(["ATA", "SCSI", "NVMe", None]))
        place, path = tree, []
        for _ in range(data.draw(st.integers(1, 5))):
            if not isinstance(place, dict | list) or not place:
                break
            keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            path.append((place, key))
            place = place[key]
        holder, key = path[-1]
        holder[key] = data.draw(TREES)
        facts = parse_smart(json.dumps(tree))
        assert facts.life_remaining_percent is None or 0 <= facts.life_remaining_percent <= 100
        assert facts.temperature_celsius is None or -60 <= facts.temperature_celsius <= 200
        to_plain(facts)

    @given(st.integers(0, len(ATA_TEXT + NVME_TEXT + SCSI_TEXT)), st.text(max_size=30))
    def test_text_cut_and_spoilt_anywhere_never_raises(self, place: int, garbage: str) -> None:
        whole = ATA_TEXT + NVME_TEXT + SCSI_TEXT
        assert parse_smart(whole[:place] + garbage).reasons
        assert parse_smart(whole[:place] + garbage + whole[place + len(garbage) :]).reasons

    @given(st.integers(0, len(nvme())))
    def test_json_cut_anywhere_never_raises(self, place: int) -> None:
        assert parse_smart(nvme()[:place]).reasons

    @given(st.integers(1, len(nvme()) - 1))
    def test_json_cut_anywhere_is_never_a_drive_without_smart_nor_a_healthy_one(self, place: int) -> None:
        facts = parse_smart(nvme()[:place])
        assert facts.state in (SmartState.TRUNCATED, SmartState.READ, SmartState.UNREADABLE)
        assert facts.health is Health.UNKNOWN

    def test_depth_and_length_are_survived(self) -> None:
        assert parse_smart("{" + '"a":{' * 100_000).health is Health.UNKNOWN
        assert parse_smart('{"power_on_time": {"hours": ' + "9" * 10_000 + "}}").power_on_hours is None


class TestCutOutput:
    """What smartctl printed ends in the middle."""

    def test_what_arrived_counts_and_the_verdict_stays_open(self) -> None:
        text = nvme(percentage_used=7)
        facts = parse_smart(text[: text.index('"host_reads"')])
        assert (facts.state, facts.health) == (SmartState.READ, Health.UNKNOWN)
        assert (facts.serial, facts.temperature_celsius, facts.wear_used_percent) == ("N1", 41, 7)
        assert [reason.code for reason in facts.reasons] == ["truncated"]

    def test_a_number_without_its_end_is_none(self) -> None:
        text = nvme(data_units_written=123_456)
        facts = parse_smart(text[: text.index("23456")])
        assert (facts.written_bytes, facts.read_bytes) == (None, 2_000 * 512_000)

    def test_half_an_attribute_is_none(self) -> None:
        text = ata(
            attribute(5, "Reallocated_Sector_Ct", raw="3"), attribute(197, "Current_Pending_Sector", raw="8")
        )
        facts = parse_smart(text[: text.rindex('"raw"') + 12])
        assert [one.id for one in facts.attributes] == [5]
        assert (facts.reallocated_sectors, facts.pending_sectors) == (3, None)
        assert (facts.health, facts.state) == (Health.WARNING, SmartState.READ)
        assert "truncated" in [reason.code for reason in facts.reasons]

    def test_without_values_it_is_called_cut_and_not_without_smart(self) -> None:
        text = nvme()
        facts = parse_smart(text[: text.index('"nvme_version"')])
        assert (facts.state, facts.model) == (SmartState.TRUNCATED, "Example NVMe 1TB")
        assert [reason.code for reason in facts.reasons] == ["truncated"]

    def test_text_that_its_source_says_was_cut(self) -> None:
        facts = parse_smart("smartctl 6.6\nDevice Model:     Example\n", cut=True)
        assert facts.state is SmartState.TRUNCATED

    @pytest.mark.parametrize("text", ["{", '{"a": 1, ', '{"smartctl', "[1, 2", '{"jobs": [1, '])
    def test_other_json_that_was_cut_is_none_of_smartctls(self, text: str) -> None:
        assert parse_smart(text).state is SmartState.UNREADABLE
