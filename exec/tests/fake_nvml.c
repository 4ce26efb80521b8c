/* A libnvidia-ml.so for tests: the GPUs are a folder, as the stand-in replica writes it (replica/src/fake_gpu.rs).
 *
 *   FOLDER/gpus            a line a GPU:     INDEX TOTAL_MIB NAME
 *   FOLDER/held/ANYTHING   a line a holding: PID START_TICKS GPU_INDEX MIB LINGER_MS
 *   FOLDER/ecc, FOLDER/throttle   one number, where there is such a file
 *
 * Built with cc -shared -fPIC -DFOLDER='"/path"'. Structures and numbers are those of nvml.h.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7 };
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process;

static unsigned long long started(unsigned pid, char *state) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = 0;
    char *rest = strrchr(text, ')');
    unsigned long long ticks = 0;
    if (!rest || sscanf(rest + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", state, &ticks) != 2)
        return 0;
    return ticks;
}

static int total(unsigned gpu, unsigned long long *mib) {
    FILE *file = fopen(FOLDER "/gpus", "r");
    unsigned index;
    int found = 0;
    while (file && !found && fscanf(file, "%u %llu %*[^\n]", &index, mib) == 2) found = index == gpu;
    if (file) fclose(file);
    return found;
}

/* Calls back for every holding that counts. */
static unsigned long long held(unsigned gpu, process *into, unsigned most, unsigned *count) {
    unsigned long long sum = 0;
    DIR *folder = opendir(FOLDER "/held");
    struct dirent *entry;
    *count = 0;
    while (folder && (entry = readdir(folder))) {
        char path[4096];
        snprintf(path, sizeof path, FOLDER "/held/%s", entry->d_name);
        struct stat about;
        FILE *file = fopen(path, "r");
        if (!file || fstat(fileno(file), &about) || !S_ISREG(about.st_mode)) { if (file) fclose(file); continue; }
        unsigned pid, index;
        unsigned long long ticks, mib, linger;
        while (fscanf(file, "%u %llu %u %llu %llu", &pid, &ticks, &index, &mib, &linger) == 5) {
            char state = 'X';
            int lives = started(pid, &state) == ticks && state != 'Z' && state != 'X';
            struct timespec now;
            clock_gettime(CLOCK_REALTIME, &now);
            double age = (double)(now.tv_sec - about.st_mtim.tv_sec) + (now.tv_nsec - about.st_mtim.tv_nsec) / 1e9;
            if (index != gpu || (!lives && !(linger > 0 && age * 1000 < (double)linger))) continue;
            if (*count < most && into) into[*count] = (process){pid, mib << 20, 0, 0};
            *count += 1;
            sum += mib;
        }
        fclose(file);
    }
    if (folder) closedir(folder);
    return sum;
}

static int number(const char *path, unsigned long long *value) {
    FILE *file = fopen(path, "r");
    if (!file) return NOT_SUPPORTED;
    int read = fscanf(file, "%llu", value);
    fclose(file);
    return read == 1 ? SUCCESS : NOT_SUPPORTED;
}

/* A device's handle is its index plus one. */
static unsigned index_of(void *device) { return (unsigned)(uintptr_t)device - 1; }

int nvmlInit_v2(void) { return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code == INVALID_ARGUMENT ? "Invalid Argument" : "Fake Error"; }

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    snprintf(version, length, "999.1");
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    unsigned long long mib;
    for (*count = 0; total(*count, &mib);) *count += 1;
    return SUCCESS;
}

int nvmlDeviceGetName(void *device, char *name, unsigned length) {
    FILE *file = fopen(FOLDER "/gpus", "r");
    char line[256], read[256];
    unsigned index;
    int result = INVALID_ARGUMENT;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "%u %*u %255[^\n]", &index, read) == 2 && index == index_of(device)) {
            snprintf(name, length, "%s", read);
            result = SUCCESS;
        }
    if (file) fclose(file);
    return result;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    unsigned long long mib;
    if (!total(index, &mib)) return INVALID_ARGUMENT;
    *device = (void *)(uintptr_t)(index + 1);
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(void *device, memory_v2 *memory) {
    unsigned long long mib;
    unsigned count;
    if (!total(index_of(device), &mib)) return INVALID_ARGUMENT;
    unsigned long long used = held(index_of(device), NULL, 0, &count);
    memory->total = mib << 20;
    memory->used = used << 20;
    memory->reserved = 0;
    memory->free = memory->total > memory->used ? memory->total - memory->used : 0;
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process *processes) {
    unsigned found;
    held(index_of(device), processes, processes ? *count : 0, &found);
    int enough = found <= *count && (processes || found == 0);
    *count = found;
    return enough ? SUCCESS : INSUFFICIENT_SIZE;
}

int nvmlDeviceGetTotalEccErrors(void *device, int kind, int counter, unsigned long long *errors) {
    (void)device, (void)kind, (void)counter;
    return number(FOLDER "/ecc", errors);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons) {
    (void)device;
    return number(FOLDER "/throttle", reasons);
}
