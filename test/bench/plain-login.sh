#!/bin/bash
# What a login does, the obvious way: one process per step. Compared with, never used.
# plain-login.sh BASE ID UID GENERATION TABLE ENTRY: TABLE has "source target type options" per line, as in a record.
set -e
base=$1 id=$2 uid=$3 generation=$4 table=$5 entry=$6
root=$base/roots/$id
volume=$base/volumes/$id
name=$(getent passwd "$uid" | cut -d: -f1)

mkdir -p "$base/roots" "$base/volumes" "$base/records"
exec 9>"$base/lock"
flock -x 9
printf '{"id":"%s"}\n' "$id" >"$base/records/$id.new"
mv "$base/records/$id.new" "$base/records/$id"
mkdir "$volume" "$volume/upper" "$volume/work"
mkdir "$root"
mount -t overlay -o "lowerdir=$generation,upperdir=$volume/upper,workdir=$volume/work" overlay "$root"
while read -r source target type options; do
	if [ "$type" != none ] || [ -d "$source" ]; then
		mkdir -p "$root$target"
	else
		touch "$root$target"
	fi
	mount -t "$type" -o "$options" "$source" "$root$target"
	mount --make-private "$root$target"
done <"$table"
mkdir -p "$root/run/lock" "$root/run/shm" "$root/run/systemd/system"
for file in passwd group shadow; do
	grep -v "^$name:" "$root/etc/$file" >"$root/etc/$file.new" || true
	getent "$file" "$name" >>"$root/etc/$file.new" || true
	mv "$root/etc/$file.new" "$root/etc/$file"
done
for file in hosts hostname resolv.conf; do
	[ ! -e "/etc/$file" ] || cp "/etc/$file" "$root/etc/$file"
done
printf '{"session":"%s"}\n' "$id" >"$root/etc/mayfly-session"
printf '[%s]\ntype=plain\ndirectory=%s\nusers=%s\n' "$id" "$root" "$name" >"$base/entry.new"
cp "$base/entry.new" "$entry"
