//! A shell with coreutils and their neighbours.

use crate::ground::Place;

const SCRIPT: &str = r#"
set -e
cd /srv
seq 1 2000 >numbers
test "$(awk '{ sum += $1 } END { print sum }' numbers)" = 2001000
sort -R numbers | sort -n | cmp - numbers
mkdir -p tree/a/b
for n in 1 2 3; do cp numbers tree/a/file$n; ln tree/a/file$n tree/a/b/hard$n; ln -s ../file$n tree/a/b/soft$n; done
chmod 640 tree/a/file1 && test "$(stat -c %a tree/a/file1)" = 640
touch -d '2001-02-03 04:05:06 UTC' tree/a/file2 && test "$(stat -c %Y tree/a/file2)" = 981173106
chgrp "$(id -g)" tree/a/file3 && chown "$(id -u)" tree/a/file3
tar -czf tree.tgz tree && mkdir back && tar -xzf tree.tgz -C back && diff -r tree back/tree
test "$(find tree -type f | xargs sha256sum | cut -d' ' -f1 | sort -u | wc -l)" = 1
mv back/tree back/other && rm -r back && test ! -e back
dd if=/dev/zero of=zeros bs=64k count=4 conv=fsync 2>/dev/null && test "$(wc -c <zeros)" = 262144
truncate -s 10 zeros && fallocate -l 8192 full && test "$(stat -c %s full)" = 8192
cp --reflink=auto full copy && split -b 4096 full part. && cat part.* | cmp - full
mkfifo pipe && (echo through >pipe &) && read line <pipe && test "$line" = through
test "$(timeout 5 tail -n 1 numbers)" = 2000
(sleep 30 & kill $! && wait $! || test $? = 143)
trap 'echo caught' USR1; kill -USR1 $$
flock numbers true && nice -n 5 true && nohup true >/dev/null 2>&1 && setsid -w true
sync numbers && df . >/dev/null && du -s . >/dev/null
test "$(echo abc | tr a-z A-Z | sed 's/B/-/' | tee out)" = A-C
test "$(date -u -d @0 +%Y)" = 1970 && uname -a >/dev/null && nproc >/dev/null
mktemp -d >/dev/null && test "$(cd /tmp && pwd)" = /tmp && ls -laR / >/dev/null 2>&1 || true
unlink out && rmdir $(mktemp -d) && readlink -f tree/a/b/soft1 >/dev/null
dd if=/dev/urandom of=/dev/shm/x bs=1k count=1 2>/dev/null && rm /dev/shm/x
ulimit -n >/dev/null; umask 077; env | sort >/dev/null; id >/dev/null
echo done
"#;

pub(crate) fn work(place: &Place) -> Result<(), String> {
    let said = place.run("shell", &["/bin/sh", "-c", SCRIPT])?;
    if said.contains("caught") && said.ends_with("done\n") {
        Ok(())
    } else {
        Err(said)
    }
}
