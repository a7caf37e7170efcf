// OHIF as this server wants it. What stands in capitals is filled in for each browser.
(() => {
  // Chosen on the pages; it takes effect when it was chosen anew, not over what OHIF was told.
  const chosen = LANGUAGE;
  try {
    if (localStorage.getItem('lienthong.language') !== chosen) {
      localStorage.setItem('lienthong.language', chosen);
      localStorage.setItem('i18nextLng', chosen);
    }
  } catch {
    // a browser that keeps nothing shows its own language
  }

  const pages = PAGES;
  const root = `${window.location.origin}/dicom-web`;
  const texts = TEXTS;

  // The session is over: what is on the screen stays, with what was measured on it. The person
  // signs in beside it and comes back; the bar goes when the server knows the browser again.
  const bar = document.createElement('div');
  bar.id = 'lienthong-session';
  bar.setAttribute('role', 'alert');
  bar.style.cssText =
    'position:fixed;inset:0 0 auto;z-index:2147483647;display:flex;flex-wrap:wrap;gap:4px 24px;' +
    'justify-content:center;padding:12px 16px;background:#fdeceb;color:#16242b;' +
    'font:600 16px/1.5 Inter,sans-serif;box-shadow:0 2px 12px #000';
  const link = document.createElement('a');
  link.href = '/signed-in';
  link.target = '_blank';
  link.rel = 'noopener';
  link.textContent = texts.sign_in_again;
  link.style.cssText = 'color:#0b6e69;text-decoration:underline';
  bar.append(texts.session_over, link);

  const sessionIsOver = () => {
    if (bar.isConnected) {
      return;
    }
    document.body.append(bar);
    const asking = setInterval(async () => {
      const answer = await fetch(link.href, { redirect: 'manual' }).catch(() => undefined);
      if (answer?.ok) {
        clearInterval(asking);
        bar.remove();
      }
    }, 3000);
  };
  // OHIF does not tell its handler of frames and thumbnails that were refused.
  try {
    new PerformanceObserver(list => {
      if (list.getEntries().some(entry => entry.responseStatus === 401)) {
        sessionIsOver();
      }
    }).observe({ type: 'resource' });
  } catch {
    // an older browser: the handler below still hears of everything else
  }

  window.config = {
    routerBasename: null,
    extensions: [],
    modes: [],
    customizationService: [
      // no tour over the first images that somebody opens
      {
        'ohif.tours': { $set: [] },
        // The archive matches names without their marks; the list shows what it found as it is.
        'workList.columns': {
          $apply: columns =>
            columns.map(column => ({
              ...column,
              filterFn: () => true,
              meta: { ...column.meta, label: texts[column.id] ?? column.meta?.label },
            })),
        },
      },
    ],
    showStudyList: true,
    whiteLabeling: {
      // the way back to the pages
      createLogoComponentFn: React =>
        React.createElement(
          'a',
          {
            href: pages,
            style: { display: 'flex', alignItems: 'center', gap: '10px', color: '#fff', fontWeight: 600 },
            onClick: event => event.stopPropagation(),
          },
          React.createElement('img', { src: ICON, alt: '', width: 24, height: 24 }),
          'Lienthong'
        ),
    },
    maxNumberOfWebWorkers: 3,
    showWarningMessageForCrossOrigin: false,
    showCPUFallbackMessage: true,
    showLoadingIndicator: true,
    strictZSpacingForVolumeViewport: true,
    groupEnabledModesFirst: true,
    investigationalUseDialog: { option: 'never' },
    maxNumRequests: { interaction: 100, thumbnail: 5, prefetch: 25 },
    showErrorDetails: 'always',
    studyPrefetcher: { enabled: true, displaySetsCount: 2, maxNumPrefetchRequests: 10, order: 'closest' },
    defaultDataSourceName: 'lienthong',
    dataSources: [
      {
        namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
        sourceName: 'lienthong',
        configuration: {
          friendlyName: 'Lienthong',
          name: 'lienthong',
          wadoUriRoot: root,
          qidoRoot: root,
          wadoRoot: root,
          qidoSupportsIncludeField: true,
          supportsReject: false,
          supportsFuzzyMatching: true,
          supportsWildcard: true,
          imageRendering: 'wadors',
          thumbnailRendering: 'thumbnail',
          thumbnailRequestStrategy: 'fetch',
          enableStudyLazyLoad: true,
          dicomUploadEnabled: true,
          singlepart: 'bulkdata,video,pdf',
          bulkDataURI: { enabled: true },
          omitQuotationForMultipartRequest: true,
        },
      },
    ],
    httpErrorHandler: error => {
      if (error?.status === 401) {
        sessionIsOver();
      }
    },
  };
})();
