# docker build -t raccoon-pacs .
# docker run -p 8081:8081 -p 11112:11112 -v pacs-data:/data -e ADMIN_PASSWORD='…' -e DIMSE_ALLOW_ANONYMOUS=true raccoon-pacs

# The full viewer's package; its digest is checked when it is unpacked.
FROM node:22-slim AS viewer
WORKDIR /viewer
RUN npm pack --ignore-scripts @ohif/app@3.13.2

FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY pacs pacs
COPY docs docs
RUN pip wheel --no-cache-dir --wheel-dir /wheels ".[fast,s3]"
RUN python -m venv /opt/pacs \
    && /opt/pacs/bin/pip install --no-cache-dir --no-index --find-links /wheels "raccoon-pacs[fast,s3]"
COPY --from=viewer /viewer/ohif-app-3.13.2.tgz /tmp/
RUN VIEWER_FOLDER=/opt/viewer /opt/pacs/bin/pacs viewer install --from /tmp/ohif-app-3.13.2.tgz

FROM python:3.12-slim
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin pacs \
    && install -d -o pacs -g pacs /data
COPY --from=build /opt/pacs /opt/pacs
COPY --from=build /opt/viewer /opt/viewer
COPY config/ae.properties /app/config/ae.properties
ENV PACS_HOME=/app \
    DICOM_STORE_ROOTPATH=/data \
    VIEWER_FOLDER=/opt/viewer \
    SERVER_HOST=0.0.0.0 \
    DIMSE_HOSTNAME=0.0.0.0 \
    PYTHONUNBUFFERED=1 \
    PATH=/opt/pacs/bin:$PATH
WORKDIR /app
USER pacs
VOLUME /data
EXPOSE 8081 11112
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ.get('SERVER_PORT', '8081') + '/health/ready', timeout=4)"]
ENTRYPOINT ["pacs"]
CMD ["serve"]
