/* A stand-in for liblustreapi: the paths of the folder LFS_WORLD, as the stand-in lfs shows them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void llapi_msg_set_level(int level)
{
	(void)level;
}

int llapi_fid2path(const char *device, const char *fidstr, char *path, int pathlen, long long *recno, int *linkno)
{
	static char paths[65536];
	char name[4096];
	FILE *file;
	int failure = 0;

	if (device[0] != '/' || *recno != -1 || *linkno != 0)
		return -EINVAL;
	snprintf(name, sizeof(name), "%s/hang", getenv("LFS_WORLD"));
	if (access(name, F_OK) == 0)
		pause();
	snprintf(name, sizeof(name), "%s/errno", getenv("LFS_WORLD"));
	file = fopen(name, "r");
	if (file != NULL) {
		if (fscanf(file, "%d", &failure) != 1)
			failure = EINVAL;
		fclose(file);
		return -failure;
	}
	snprintf(name, sizeof(name), "%s/paths/%s", getenv("LFS_WORLD"), fidstr);
	file = fopen(name, "r");
	if (file == NULL)
		return -errno;
	paths[fread(paths, 1, sizeof(paths) - 1, file)] = '\0';
	fclose(file);
	if (strlen(paths) >= (size_t)pathlen)
		return -ERANGE;
	strcpy(path, paths);
	return 0;
}
