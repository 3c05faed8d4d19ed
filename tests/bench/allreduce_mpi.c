/*
 * allreduce_mpi: what bench_coll prints for `allreduce`, of an MPI: allreduce.sh compiles it with
 * mpicc and runs it on two processes. A line a size: bytes, and the median of rounds in us.
 */
#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define ROUNDS 41 /* of more than LARGE bytes a quarter of them */
#define LARGE  (4 << 20)

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The us that the slower rank takes for what both have just written. */
static double one(float *x, int count)
{
    double us;
    for (int i = 0; i < count; i++)
        x[i] = 1;
    MPI_Barrier(MPI_COMM_WORLD);
    double begin = MPI_Wtime();
    MPI_Allreduce(MPI_IN_PLACE, x, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    us = (MPI_Wtime() - begin) * 1e6;
    MPI_Allreduce(MPI_IN_PLACE, &us, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return us;
}

int main(int argc, char **argv)
{
    int rank;
    cpu_set_t cpus;
    double us[ROUNDS];
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    CPU_ZERO(&cpus);
    CPU_SET(rank, &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus);
    for (int i = 1; i < argc; i++) {
        long bytes = strtol(argv[i], NULL, 10);
        int count = (int)(bytes / 4), rounds = bytes > LARGE ? ROUNDS / 4 : ROUNDS;
        float *x = calloc((size_t)count, sizeof *x);
        if (!x)
            return 1;
        for (int k = -2; k < rounds; k++)
            us[k < 0 ? 0 : k] = one(x, count);
        qsort(us, (size_t)rounds, sizeof *us, compare);
        if (rank == 1)
            printf("%ld %.2f\n", bytes, us[rounds / 2]);
        free(x);
    }
    MPI_Finalize();
    return 0;
}
