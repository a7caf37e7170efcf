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

  window.config = {
    routerBasename: null,
    extensions: [],
    modes: [],
    customizationService: [
      // no tour over the first images that somebody opens
      { 'ohif.tours': { $set: [] } },
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
      // the session is over: loading the page again leads to the form and back here
      if (error?.status === 401) {
        window.location.reload();
      }
    },
  };
})();
