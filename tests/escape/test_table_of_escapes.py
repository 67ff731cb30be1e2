"""Every known escape, and the test that holds it shut.

| escape | held by |
|---|---|
| the runtime overwritten through /proc/self/exe (CVE-2019-5736) | test_the_runtime_cannot_be_overwritten_through_proc_1_exe, test_the_running_shims_file_is_sealed_against_everyone |
| leaked descriptors, WORKDIR /proc/self/fd/N (CVE-2024-21626) | test_no_descriptor_of_the_host_leaks_in, test_no_descriptor_leaks_into_an_exec, test_every_descriptor_of_the_setup_ends_with_it, test_a_working_folder_cannot_be_a_leaked_descriptor, test_an_exec_cannot_start_in_a_leaked_descriptor_either |
| /proc or /sys a link in the image (CVE-2019-19921, 2023-28642, 2025-52881) | test_an_image_cannot_move_a_kernel_file_system, test_nothing_is_mounted_inside_proc |
| kernel parameters written elsewhere (CVE-2025-52881) | test_a_sysctl_name_cannot_climb, test_the_core_refuses_a_climbing_sysctl_name_too, test_a_parameter_is_not_written_into_an_images_file, test_a_parameter_is_not_written_through_a_link, test_a_sysctl_of_the_whole_machine_is_refused, test_a_sysctl_of_a_shared_namespace_is_refused |
| mount targets swapped for links while mounting (CVE-2021-30465) | test_targets_swapped_while_mounting_stay_inside, test_a_mount_target_that_is_a_link_stays_inside |
| the source of masks swapped (CVE-2025-31133) | test_masks_do_not_come_from_the_image |
| the console swapped (CVE-2025-52565) | test_the_console_is_not_mounted_over_a_link |
| /dev as a link (CVE-2026-41579 class) | test_an_image_cannot_move_a_kernel_file_system |
| mkdir that leaves the root (CVE-2024-45310) | test_folders_are_not_made_outside_the_root |
| docker cp, both directions (CVE-2018-15664, 2026-42306 class) | test_reading_while_the_container_swaps_the_folder_for_a_link_out, test_writing_while_the_container_swaps_the_folder_for_a_link_out, test_a_mount_point_swapped_for_a_link_does_not_redirect_the_volume |
| code of the image run by the daemon (CVE-2019-14271) | test_the_shim_loads_no_library_that_an_image_could_bring, test_nothing_of_the_container_runs_during_a_copy |
| inheritable capabilities (CVE-2022-29162) | test_inheritable_capabilities_are_empty |
| loose parsing of exec -u (CVE-2026-30892 class) | test_a_user_that_is_neither_name_nor_number_is_nobody, test_a_group_is_parsed_as_strictly, test_a_name_that_looks_like_a_number_is_a_name |
| a control group that can be written (CVE-2022-0492, 2023-25809) | test_control_groups_cannot_be_written |
| AF_ALG, AF_VSOCK and dangerous calls: keyrings, dmesg, kexec, bpf, time, overlay and mounts inside | test_a_dangerous_call_is_refused |
| control sockets seen from the host's network (CVE-2020-15257) | test_the_host_network_shows_no_control_socket |
| a volume declared outside the root (CVE-2022-23648) | test_a_volume_is_not_filled_from_the_machine_through_a_link, test_a_mount_point_that_climbs_lands_inside |
| oversized values at the boundaries (CVE-2021-43784 class) | test_a_nul_byte_cannot_cut_a_value_short, test_seventeen_megabytes_are_refused_before_they_are_sent, test_a_path_of_five_thousand_letters_is_an_error, test_ten_thousand_device_nodes_are_handled |
| a data root that others can read (CVE-2021-41091) | test_the_labs_folders_are_closed_to_others |
| setuid files gained by copy-up or a mount inside | test_a_dangerous_call_is_refused, test_devices_of_the_machine_cannot_be_opened |
| keys of the daemon's session | test_keys_of_the_daemons_session_are_not_inherited, test_the_container_has_a_session_keyring_of_its_own |
| ptrace of others, of the runtime while it joins | test_another_containers_processes_are_out_of_reach, test_a_process_about_to_join_cannot_be_traced_or_read, test_root_of_a_user_namespace_cannot_look_into_an_exec_that_is_set_up |
| sysrq and the kernel's switches | test_kernel_switches_cannot_be_thrown |
| the old root within reach | test_nothing_of_the_old_root_is_mounted_any_more |
| a container without anybody to end it | test_a_container_does_not_outlive_its_shim_though_nobody_else_ends_it |
"""  # noqa: E501

from __future__ import annotations

import re
from pathlib import Path


def test_every_escape_of_the_table_has_its_test() -> None:
    here = Path(__file__).parent
    written = set()
    for file in here.glob("test_*.py"):
        written.update(re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE))
    named = set(re.findall(r"test_\w+", __doc__ or ""))
    assert named <= written, named - written


def test_every_test_of_an_escape_is_in_the_table() -> None:
    """The ones about archives, of which the table names the races, speak for themselves."""
    here = Path(__file__).parent
    for name in ("test_known_escapes.py", "test_second_lines.py", "test_before_the_start.py"):
        written = set(
            re.findall(r"^(?:async )?def (test_\w+)", (here / name).read_text(), re.MULTILINE)
        )
        missing = written - set(re.findall(r"test_\w+", __doc__ or ""))
        assert missing <= {"test_every_namespace_is_new_by_default"}, missing
