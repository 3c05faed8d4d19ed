# For tools that want a Dockerfile: the file system that `make image` has put together in build/rootfs (or `make
# image-cuda`, with --build-arg ROOT=build/rootfs-cuda). There is no base image, and nothing is downloaded: all that
# is in the image came from the distribution's signed packages on the machine that built it; `make sbom` lists them.
#   make image && docker build .
FROM scratch
ARG ROOT=build/rootfs
COPY ${ROOT}/ /
USER 65532:65532
ENTRYPOINT ["/usr/bin/llmjob-agent"]
