# The programs alone: they are static, and nothing else is in the image. `make image` builds it.
FROM scratch
COPY meta-cni meta-cnid meta-cnictl meta-cni-webhook /
ENTRYPOINT ["/meta-cnid"]
CMD ["run"]
