# The programs alone: they are static, and nothing else is in the image. `make image` builds it.
FROM scratch
COPY meta-cni meta-cnid meta-cnictl /
ENTRYPOINT ["/meta-cnid"]
CMD ["run"]
