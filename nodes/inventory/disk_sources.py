"""What the host is asked for the section ``disks``, beside the sources that it shares with ``pci``.

Few processes: the kernel's files in one ``grep``, ``lsblk`` for what udev and blkid know, and the tools of
volume managers only where sysfs says that there is something for them to tell.
"""

from __future__ import annotations

from nodes.inventory.forms import FILES, Form, json_of, lines_like
from nodes.inventory.privileged import LVM_REPORT, MULTIPATH_MAPS
from nodes.inventory.smart_text import is_smartctls
from nodes.inventory.source import Source

DISK_FILES = Source(
    name="disk-files",
    command="grep -as ."
    + "".join(
        f" /sys/class/block/*/{file}"
        for file in (
            "size",
            "dev",
            "ro",
            "removable",
            "hidden",
            "partition",
            "start",
            "stat",
            "wwid",
            "serial",
            "queue/rotational",
            "queue/logical_block_size",
            "queue/physical_block_size",
            "dm/name",
            "dm/uuid",
            "bcache/state",
            "bcache/cache_mode",
        )
    )
    + "".join(
        f" /sys/class/block/*/device/{file}"
        for file in (
            "vendor",
            "model",
            "rev",
            "wwid",
            "type",
            "state",
            "name",
            "serial",
            "fwrev",
            "life_time",
            "pre_eol_info",
        )
    )
    + "".join(
        f" /sys/class/block/md*/md/{file}"
        for file in (
            "level",
            "raid_disks",
            "degraded",
            "array_state",
            "sync_action",
            "sync_completed",
            "metadata_version",
            "dev-*/state",
            "dev-*/slot",
        )
    )
    + "".join(
        f" /sys/class/nvme/nvme*/{file}"
        for file in (
            "model",
            "serial",
            "firmware_rev",
            "transport",
            "address",
            "state",
            "device/current_link_speed",
            "device/current_link_width",
            "device/max_link_speed",
            "device/max_link_width",
        )
    )
    + " /sys/class/scsi_host/host*/proc_name /sys/class/ata_link/link*/sata_spd"
    " /sys/class/sas_port/port-*/device/phy-*/sas_phy/*/negotiated_linkrate"
    " /sys/class/sas_port/port-*/device/phy-*/sas_phy/*/maximum_linkrate"
    " /sys/bus/usb/devices/*-*/speed /sys/bus/usb/devices/*-*/version /sys/fs/btrfs/*/label",
    # 1: nothing found, 2: some of the files are not there, which no host avoids.
    ok_statuses=(0, 1, 2),
    max_bytes=4 << 20,
    form=FILES,
)

_COLUMNS = (
    "NAME,KNAME,TYPE,SIZE,RO,RM,ROTA,LOG-SEC,PHY-SEC,FSTYPE,FSVER,LABEL,UUID,MOUNTPOINT,FSSIZE,FSAVAIL,FSUSED,"
    "PTTYPE,PTUUID,PARTTYPE,PARTTYPENAME,PARTLABEL,PARTUUID,PARTFLAGS,MODEL,VENDOR,SERIAL,REV,WWN,TRAN,HCTL"
)
DISK_LSBLK = Source(
    name="disk-lsblk",
    # Before util-linux 2.36 some of the columns have no name yet; -O then gives those that there are.
    command=f"lsblk -J -b -e 7 -o {_COLUMNS} 2>/dev/null || lsblk -J -b -e 7 -O",
    needs="lsblk",
    # 64: some of the devices could not be read.
    ok_statuses=(0, 64),
    max_bytes=4 << 20,
    form=json_of(dict),
)

# LVM looks at every disk of the host, which takes 40 ms and wakes sleeping ones: only where there are active
# volumes, physical ones that udev has seen, or groups that were changed on this host once.
_LVM_IN_USE = r"""
used=
for file in /run/lvm/pvs_online/* /etc/lvm/backup/*; do
  [ -e "$file" ] && used=yes
done
for file in /sys/class/block/dm-*/dm/uuid; do
  { read -r uuid <"$file"; } 2>/dev/null || continue
  case $uuid in LVM-*) used=yes ;; esac
done
[ "$used" ] || exit 0
"""
DISK_LVM = Source(
    name="disk-lvm",
    command=_LVM_IN_USE + LVM_REPORT,
    needs="lvm",
    needs_root=True,
    max_bytes=4 << 20,
    form=json_of(dict),
)

DISK_ZPOOL = Source(
    name="disk-zpool",
    command="[ -e /sys/module/zfs ] || exit 0\nzpool list -vHPLp",
    needs="zpool",
    form=lines_like(r"^[^\t\n]+\t[\d-]"),
)

DISK_MULTIPATH = Source(
    name="disk-multipath",
    command="grep -asq '^mpath-' /sys/class/block/dm-*/dm/uuid /dev/null || exit 0\n" + MULTIPATH_MAPS,
    needs="multipathd",
    needs_root=True,
    form=json_of(dict),
)

# A virtual machine's disks, LUNs of a SAN, slots without a medium and disks that are gone have no SMART, and
# asking costs a process each. Behind a RAID controller the physical disks are asked in the volumes' stead:
# MegaRAID's are in smartctl's scan, those of Smart Arrays are counted through until there is no such one
# (smartctl(8), -d cciss,N, knows no list of them), and Adaptec's are in sysfs without a block device.
#
# A Smart Array's are asked 16 side by side, so that one that hangs costs the others neither their turn nor
# their time. They are asked by the shell itself, as smartctl may be its function that goes through sudo.
# SATA disks tell a model where those of SAS tell their type; an enclosure has a number too.
_SMART_ITEMS = r"""
count() { # VOLUME FILE: lists the disks of one Smart Array; files are in the probe's own directory
  number=0
  while [ "$number" -lt 128 ]; do
    first=$number asked=
    while [ "$number" -lt $((first + 16)) ]; do
      smartctl -n standby -i -d "cciss,$number" "$1" >"$2.$number" 2>&1 &
      asked="$asked $!"
      number=$((number + 1))
    done
    read -r now _ </proc/uptime
    limit=$((${now%.*} + 3))
    while :; do
      sleep 0.05 2>/dev/null || sleep 1
      hanging=
      for child in $asked; do
        kill -0 "$child" 2>/dev/null && hanging="$hanging $child "
      done
      read -r now _ </proc/uptime
      [ "$hanging" ] && [ "${now%.*}" -lt "$limit" ] || break
    done
    number=$first answered= end=
    for child in $asked; do
      case $hanging in
      *" $child "*)
        # Where the function ran it, it is the child of a shell. One of root's, under sudo, ends by itself.
        below=
        { read -r below <"/proc/$child/task/$child/children"; } 2>/dev/null
        kill -9 "$child" $below 2>/dev/null
        echo "$1 -d cciss,$number"
        ;;
      *)
        answered=yes
        found=$(cat "$2.$number")
        case $found in
        *'Device type: '*' disk'* | *'Device Model: '* | *'Device is in '*) echo "$1 -d cciss,$number" ;;
        *'Device type: '*) ;;
        *) end=yes ;;
        esac
        ;;
      esac
      number=$((number + 1))
    done
    [ "$answered" ] && [ ! "$end" ] || break
  done
}
raids= adaptecs= arrays= volumes= counting=
for file in /sys/class/scsi_host/host*/proc_name; do
  { read -r driver <"$file"; } 2>/dev/null || continue
  host=${file%/proc_name}
  host=${host##*/}
  case $driver in
  megaraid_sas | sssraid) raids="$raids $host " ;;
  aacraid) adaptecs="$adaptecs $host " ;;
  hpsa | smartpqi) arrays="$arrays $host " ;;
  esac
done
doors= doored=
for disk in /sys/class/block/sd* /sys/class/block/nvme*; do
  name=${disk##*/}
  case $name in sd*[0-9] | nvme*p[0-9]* | nvme*c[0-9]*n* | *'*') continue ;; esac
  { read -r size <"$disk/size"; } 2>/dev/null || continue
  [ "$size" = 0 ] && continue
  case $name in
  sd*)
    { read -r vendor _ <"$disk/device/vendor"; } 2>/dev/null || vendor=
    case $vendor in QEMU | VMware | Msft | VBOX | Google | Nutanix | Virtuozzo) continue ;; esac
    { read -r state <"$disk/device/state"; } 2>/dev/null || state=
    case $state in '' | running) ;; *) continue ;; esac
    { cd -P "$disk/device"; } 2>/dev/null || continue
    case $PWD in */session[0-9]* | */rport-* | */virtio[0-9]*) continue ;; esac
    host=${PWD#*/host}
    host=host${host%%/*}
    case $raids in *" $host "*) continue ;; esac
    target=${PWD##*/target}
    target=${target#*:}
    volumes="$volumes $host=/dev/$name "
    case $adaptecs,${target%%:*} in *" $host "*,0) continue ;; esac
    case $arrays in
    *" $host "*)
      { read -r level <raid_level; } 2>/dev/null || level=
      { read -r model <model; } 2>/dev/null || model=
      case $level/$model in
      RAID* | */LOGICAL*)
        case $doored in *" $host "*) ;; *) doors="$doors /dev/$name" doored="$doored $host " ;; esac
        continue
        ;;
      esac
      ;;
    esac
    ;;
  esac
  echo "/dev/$name"
done
for host in $adaptecs; do
  # smartctl counts the adapters as the driver does, which is not how hosts are; a volume tells the host.
  { read -r unit <"/sys/class/scsi_host/$host/unique_id"; } 2>/dev/null || continue
  case $volumes in *" $host="*) ;; *) continue ;; esac
  door=${volumes#*" $host="}
  for disk in "/sys/class/scsi_device/${host#host}":[1-9]*; do
    { read -r type <"$disk/device/type"; } 2>/dev/null || continue
    [ "$type" = 0 ] && [ ! -e "$disk/device/block" ] || continue
    place=${disk##*/}
    id=${place#*:*:}
    channel=${place#*:}
    # The driver shows the controller's first channel of disks as the second of the host.
    echo "${door%% *} -d aacraid,$unit,$((${channel%%:*} - 1)),${id%%:*}"
  done
done
for door in $doors; do
  count "$door" "$na_file.${door##*/}" >"$na_file.${door##*/}" &
  counting="$counting $!"
done
wait $counting
for door in $doors; do
  cat "$na_file.${door##*/}"
done
[ "$raids" ] || exit 0
smartctl --scan | while read -r device _ type _; do
  case $type in *,*) echo "$device -d $type" ;; esac
done
"""

# Which logs are asked for depends on what the disk is: -x would also read SCT tables, directories and
# PHY counters that nobody here looks at, and smartctl's database of drives is only needed for ATA.
_SMART = r"""
logs='-c -T permissive -l xerror,error -l xselftest,selftest -l devstat -l ssd'
old='-c -l error -l selftest'
name=${1#/dev/}
case $1 in
/dev/nvme*) logs='-B /dev/null -l selftest' old= ;;
*' -d '*) logs="$logs -l error -l selftest" ;;
*)
  { read -r vendor _ <"/sys/class/block/$name/device/vendor"; } 2>/dev/null || vendor=ATA
  { cd -P "/sys/class/block/$name/device"; } 2>/dev/null
  case $vendor/$PWD in
  ATA/* | */usb[0-9]*) ;;
  *) logs='-B /dev/null -l error -l selftest -l ssd' old='-l error -l selftest' ;;
  esac
  ;;
esac
found=$(smartctl --json=c -n standby -i -H -A $logs $1)
status=$?
case $found in
'' | *'{'*) ;;
*)
  # Before 7.0 there was no JSON.
  found=$(smartctl -n standby -i -H -A $old $1)
  status=$?
  ;;
esac
printf '%s\n' "$found"
return $status
"""
DISK_SMART = Source(
    name="disk-smart",
    command=_SMART,
    items=_SMART_ITEMS,
    needs="smartctl",
    needs_root=True,
    # A mask of bits, of which most tell about the disk.
    ok_statuses=None,
    form=lines_like(r"^/dev/"),
    item_form=Form(is_smartctls, always=True),
)

SOURCES = (DISK_FILES, DISK_LSBLK, DISK_LVM, DISK_ZPOOL, DISK_MULTIPATH, DISK_SMART)
OPTIONAL = (DISK_LVM.name, DISK_ZPOOL.name, DISK_MULTIPATH.name)
