/* Preloaded into a database server: lets fdatasync fail or wait as a file says.

PODIUM_SYNC_FAULT names the file. "fail": the next sync fails with EIO, once, and the file is gone.
"slow N": every sync waits N milliseconds while the file is there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int fdatasync(int descriptor) {
  static int (*genuine)(int);
  if (!genuine) genuine = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  const char *path = getenv("PODIUM_SYNC_FAULT");
  FILE *file = path ? fopen(path, "r") : NULL;
  if (file) {
    int wait_ms = 0;
    int slow = fscanf(file, "slow %d", &wait_ms) == 1;
    fclose(file);
    if (slow) usleep(wait_ms * 1000);
    else if (unlink(path) == 0) { /* of all that come at once, one */
      errno = EIO;
      return -1;
    }
  }
  return genuine(descriptor);
}
