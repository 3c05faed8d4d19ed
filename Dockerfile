# For tools that want a Dockerfile: the file system that `make image` (or `make image-cuda`) has put together in
# build/rootfs. There is no base image, and nothing is downloaded: all that is in the image came from the
# distribution's signed packages on the machine that built it; `make sbom` lists them.
#   make image && docker build .
FROM scratch
COPY build/rootfs/ /
USER 65532:65532
ENTRYPOINT ["/usr/bin/llmjob-agent"]
