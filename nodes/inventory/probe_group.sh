offset=$1 na_dir=$2 na_elevate=$3 na_group=$4
if [ "$na_elevate" = password ]; then
  IFS= read -r na_password
  exec </dev/null
fi
: >"$na_dir/g$na_group"
# `timeout` ends the whole process group; this shell outlives the first signal, so that what ignores it
# is killed a second later instead of being left behind.
trap na_again=1 TERM

one() { # NUMBER FUNCTION BLOCKS TOOL ROOT [ITEM]: runs a source in this subshell and notes how it ended
  na_file=$na_dir/$1
  exec >"$na_file.o" 2>"$na_file.e"
  read -r na_start _ </proc/uptime
  if [ "$4" ] && ! command -v "$4" >/dev/null; then
    echo "missing $na_start $na_start" >"$na_file.s"
    exit
  fi
  if [ "$5" ] && [ "$na_elevate" = no ]; then
    echo "denied $na_start $na_start" >"$na_file.s"
    exit
  fi
  # The tool alone goes through sudo, with its own arguments: rules that allow just that fit.
  case $5,$na_elevate in
  root,sudo)
    for na_tool in ${4:-cat grep ls}; do
      eval "$na_tool() { sudo -n $na_tool \"\$@\"; }"
    done
    ;;
  root,password)
    for na_tool in ${4:-cat grep ls}; do
      eval "$na_tool() { printf '%s\\n' \"\$na_password\" | sudo -S -k -p '' -- $na_tool \"\$@\"; }"
    done
    ;;
  esac
  trap 'na_exit=$?; read -r na_end _ </proc/uptime; echo "$na_exit $na_start $na_end" >"$na_file.s"' EXIT
  # bash would run the line above for a signal too, with a status of 0.
  trap 'trap - EXIT; read -r na_end _ </proc/uptime; echo "timeout $na_start $na_end" >"$na_file.s"; exit' TERM
  ulimit -f "$3"
  "$2" "$6"
}

many() { # NUMBER FUNCTION BLOCKS TOOL ROOT: the same once an item, at most 64 side by side
  [ "$offset" = 0 ] && (one "$1" "list_$1" "$3" "$4" "$5")
  na_count=0
  while IFS= read -r na_item; do
    na_count=$((na_count + 1))
    [ "$na_count" -gt "$offset" ] || continue
    if [ "$na_count" -gt $((offset + 64)) ]; then
      : >"$na_dir/m$na_group.$((offset + 64))"
      break
    fi
    one "$1.$na_count" "$2" "$3" "$4" "$5" "$na_item" </dev/null &
  done <"$na_dir/$1.o"
  wait
}

finish() {
  while :; do
    na_again=
    wait
    [ "$na_again" ] || break
  done
}
