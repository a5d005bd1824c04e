# The beat: one line every $period seconds, for as long as somebody reads it. POSIX sh; every value is read by
# the shell itself, so that a beat starts three short processes (sleep, and one or two to search among sockets).
# "-" is what this host does not tell. Units: bytes, sectors of 512 bytes, clock ticks, percent.
LC_ALL=C
export LC_ALL
trap 'exit 0' HUP TERM PIPE
read -r boot </proc/sys/kernel/random/boot_id || boot=-
count=0 before=0

listening() {
  libvirt=0
  [ -r /proc/net/unix ] || libvirt=-
  for path in $sockets; do
    [ -S "$path" ] || continue
    grep -q -E "^[^ ]+ [^ ]+ [^ ]+ 00010000 .* (/var)?$path\$" /proc/net/unix && libvirt=1 && return
  done
}

while :; do
  up='-' load='-'
  read -r up _ </proc/uptime
  read -r one five fifteen _ </proc/loadavg && load=$one,$five,$fifteen
  cpu=-
  if read -r _ user nice system idle wait irq soft steal _ </proc/stat; then
    # Guests' time is in user and nice already.
    cpu=$((user + nice + system + irq + soft + ${steal:-0})),$((idle + wait))
  fi
  total=- free=- available=- swap_total=- swap_free=-
  while read -r key value _; do
    case $key in
      MemTotal:) total=$value ;;
      MemFree:) free=$value ;;
      MemAvailable:) available=$value ;;
      SwapTotal:) swap_total=$value ;;
      SwapFree:) swap_free=$value && break ;;
    esac
  done </proc/meminfo
  psi=
  for kind in cpu memory io; do
    value=-
    if [ -r /proc/pressure/$kind ]; then
      { read -r _ value _ </proc/pressure/$kind; } 2>/dev/null && value=${value#avg10=} || value=-
    fi
    psi=$psi${psi:+,}$value
  done
  # Which devices there are is looked up once a minute; a device that has gone meanwhile is passed over.
  if [ $((count % 12)) = 0 ]; then
    nics='' disks=''
    for path in /sys/class/net/*/device; do
      [ -e "$path" ] && nics="$nics ${path%/device}/statistics"
    done
    for path in /sys/block/*/device; do
      case $path in */sr[0-9]* | */fd[0-9]* | */nvme*c[0-9]*n*) continue ;; esac
      [ -e "$path" ] && disks="$disks ${path%/device}/stat"
    done
  fi
  rx=0 tx=0
  for path in $nics; do
    [ -r "$path/rx_bytes" ] && read -r value <"$path/rx_bytes" && rx=$((rx + value))
    [ -r "$path/tx_bytes" ] && read -r value <"$path/tx_bytes" && tx=$((tx + value))
  done
  # A host without one has no traffic that could be told, which is not a traffic of nothing.
  [ -n "$nics" ] || rx=- tx=-
  reads=0 read_sectors=0 writes=0 written_sectors=0
  for path in $disks; do
    [ -r "$path" ] && read -r a _ b _ c _ d _ <"$path" || continue
    reads=$((reads + a)) read_sectors=$((read_sectors + b))
    writes=$((writes + c)) written_sectors=$((written_sectors + d))
  done
  [ -n "$disks" ] || reads=- read_sectors=- writes=- written_sectors=-
  # Whoever listens at libvirt's socket can be started by it: the daemon itself may rest. One that was there
  # a beat ago is looked for twice, so that its restart is no alarm.
  listening
  if [ $libvirt = 0 ] && [ $before = 1 ]; then
    sleep 1
    listening
  fi
  before=$libvirt
  running=- defined=-
  if [ -r /run/libvirt/qemu ] && [ -x /run/libvirt/qemu ]; then
    running=0
    [ -r /etc/libvirt/qemu ] && [ -x /etc/libvirt/qemu ] && defined=0
    for path in /run/libvirt/qemu/*.pid; do
      [ -e "$path" ] || continue
      name=${path##*/} name=${name%.pid}
      [ "$name" = driver ] && continue
      running=$((running + 1))
      # A transient domain has no definition and is one all the same.
      [ "$defined" = - ] || [ -e "/etc/libvirt/qemu/$name.xml" ] || defined=$((defined + 1))
    done
    if [ "$defined" != - ]; then
      for path in /etc/libvirt/qemu/*.xml; do
        [ -e "$path" ] && defined=$((defined + 1))
      done
    fi
  fi
  echo "beat 1 n=$count boot=$boot up=$up load=$load cpu=$cpu mem=$total,$free,$available swap=$swap_total,$swap_free psi=$psi net=$rx,$tx disk=$reads,$read_sectors,$writes,$written_sectors libvirt=$libvirt vms=$running,$defined end" || exit 0
  count=$((count + 1))
  sleep "$period" || exit 0
done
