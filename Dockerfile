# The image for people who have Docker: the same file system as `make image` packs without it.
# `docker build --build-arg CUDA=1 .` is `make image-cuda`: with the plugin for NVIDIA GPUs.
FROM debian:12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
      gcc make libc6-dev libcurl4-openssl-dev libcjson-dev libwebsockets-dev libssl-dev \
      libyaml-dev libpcre2-dev libutf8proc-dev libxxhash-dev libdnnl-dev && \
    rm -rf /var/lib/apt/lists/*
ARG CUDA=
RUN [ -z "$CUDA" ] || { apt-get update && apt-get install -y --no-install-recommends \
      g++ python3-pip ca-certificates && rm -rf /var/lib/apt/lists/*; }
WORKDIR /src
COPY . .
RUN make -j"$(nproc)" O=/build CUDA="$CUDA" all && \
    cd /build && /src/image/rootfs /root-fs llmjob-rank llmjob-agent llmjob-controller llmjob \
      ${CUDA:+libllmjob-cuda.so}

FROM scratch
COPY --from=build /root-fs/ /
USER 65532:65532
ENTRYPOINT ["/usr/bin/llmjob-agent"]
